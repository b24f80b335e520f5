#!/usr/bin/env python3
"""decode_gen.py - turns decode_table.txt into C: descriptors and the decoder's two-level lookup.

usage: decode_gen.py decode_table.txt OUTPUT.c

The syntax of the table is told in its head. For each opcode the rows that share it become a decision
tree over the few facts that tell them apart (code size, mandatory prefix, ModRM fields, W, L); each
tree node is one array lookup in the decoder. A row with more conditions beats one with fewer.
"""
import re
import sys

MAPS = {"1": (0, 0), "0f": (0, 1), "38": (0, 2), "3a": (0, 3), "v0f": (1, 1), "v38": (1, 2), "v3a": (1, 3)}
CONDITIONS = ["o", "no", "b", "nb", "z", "nz", "be", "nbe", "s", "ns", "p", "np", "l", "nl", "le", "nle"]
CONDITION_FLAGS = ["o", "c", "z", "cz", "s", "p", "so", "zso"]
FLAGS = {"c": "CF", "p": "PF", "a": "AF", "z": "ZF", "s": "SF", "t": "TF", "i": "IF", "d": "DF", "o": "OF",
         "l": "IOPL", "n": "NT", "r": "RF", "v": "VM", "k": "AC", "f": "VIF", "g": "VIP", "x": "ID"}
GPRS = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11"]
SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS"]
ATTRS = {"lock": "LOCK", "rep": "REP", "repe": "REPE", "priv": "PRIVILEGED", "iopl": "IOPL", "d64": "DEFAULT64",
         "f64": "FORCE64", "prot": "PROTECTED", "branch": "BRANCH", "ends": "ENDS_BLOCK", "push": "PUSH",
         "pop": "POP", "aligned": "ALIGNED", "restart": "RESTART", "vsib": "VSIB", "ser": "SERIALIZING",
         "undoc": "UNDOCUMENTED", "fp": "EXCEPTION_FP", "modrm": "MODRM"}
CLASSES = ["x87", "mmx", "sse", "avx"]
CHECKS = {"modreg": "MOD_IGNORED", "distinct": "GATHER"}
FIXED = {"AL": ("GPR", "B", 0), "CL": ("GPR", "B", 1), "AX": ("GPR", "W", 0), "DX": ("GPR", "W", 2),
         "rAX": ("GPR", "V", 0), "eAX": ("GPR", "Z", 0), "XMM0": ("XMM", "DQ", 0), "ST0": ("ST", "T", 0),
         "STi": ("STI", "T", 0), "ST1": ("ST", "T", 1), "1": ("CONST", "B", 1), "3": ("CONST", "B", 3)}
ACCESS = {"r": "R", "w": "W", "rw": "RW", "n": "NONE", "mw": "MAYBE_W", "mrw": "MAYBE_RW"}
IMMS = {"Ib": "U8", "Isb": "S8", "Iw": "U16", "Iz": "Z", "Iv": "V", "Jb": "S8", "Jz": "Z", "Ap": "FAR",
        "Ob": "OFFSET", "Ov": "OFFSET", "Lx": "U8"}
MODRM_KINDS = set("EGMRVWUPQNSCD") | {"STI"}
# Dimensions of the decision tree, in order, with the number of their values.
DIMS = [("mode", 2), ("prefix", 4), ("rexb", 2), ("mod", 2), ("reg", 8), ("rm", 8), ("w", 2), ("l", 2)]
INVALID = 0xffff


class Row:
    """One form of an instruction: conditions, name, operands, facts."""

    def __init__(self):
        self.cond, self.operands, self.attrs, self.checks = {}, [], set(), set()
        self.flags = {k: "" for k in "RWMU01"}
        self.read, self.written = 0, 0
        self.op, self.cls, self.feature, self.twin = None, "integer", "NONE", None
        self.imm = []
        self.cc, self.vex_w, self.unaligned = False, None, False

    def copy(self):
        other = Row()
        for key, value in self.__dict__.items():
            copied = value.copy() if isinstance(value, (dict, list, set)) else value
            setattr(other, key, copied)
        return other


def fail(line, why):
    sys.exit(f"decode_table.txt: {why}: {line}")


def parse_match(row, words, line):
    row.vex, row.map = MAPS[words[0]]
    first, _, last = words[1].partition("-")
    row.first = int(first, 16)
    row.last = int(last, 16) if last else row.first
    for w in words[2:]:
        if w[0] == "/":
            row.cond["reg"] = int(w[1])
        elif w in ("mem", "reg"):
            row.cond["mod"] = int(w == "reg")
        elif w.startswith("rm="):
            row.cond["rm"] = int(w[3])
        elif w in ("np", "66", "f3", "f2"):
            row.cond["prefix"] = ["np", "66", "f3", "f2"].index(w)
        elif w in ("64", "no64"):
            row.cond["mode"] = int(w == "64")
        elif w in ("w0", "w1", "l0", "l1", "b0", "b1"):
            row.cond["rexb" if w[0] == "b" else w[0]] = int(w[1])
        else:
            fail(line, f"unknown condition {w}")


def parse_operand(row, word, line):
    name, _, access = word.partition("/")
    access = ACCESS[access or "r"]
    if name in FIXED:
        kind, size, reg = FIXED[name]
    elif name in SEGMENTS:
        kind, size, reg = "SEG", "W", SEGMENTS.index(name)
    else:
        kind, size, reg = name[0], name[1:].upper() or "NONE", 0
        if name in IMMS:
            row.imm.append(IMMS[name])
            size = {"SB": "B"}.get(size, size)
    row.operands.append([kind, size, access, reg])


def parse_fact(row, w, line):
    if w[0] in "RWMU01" and w[1:2] == "=":
        row.flags[w[0]] = "" if w[2:] == "-" else row.flags[w[0]] + w[2:]
    elif w[:2] in ("r=", "w="):
        mask = sum(1 << GPRS.index(r) for r in w[2:].split(","))
        if w[0] == "r":
            row.read |= mask
        else:
            row.written |= mask
    elif w in ATTRS:
        row.attrs.add(ATTRS[w])
    elif w in CLASSES:
        row.cls = w
    elif w in CHECKS:
        row.checks.add(CHECKS[w])
    elif w[0] == "+":
        row.feature = w[1:]
    elif w.startswith("op="):
        row.op = w[3:]
    elif w == "cc":
        row.cc = True
    elif w == "unaligned":
        row.unaligned = True
    elif w in ("vw0", "vw1"):
        row.vex_w = int(w[2])
    elif re.fullmatch(r"v[23](i|s|l0)?", w):
        row.twin = w
    else:
        fail(line, f"unknown fact {w}")


def parse_row(line, aliases):
    parts = [p.split() for p in line.split(":")]
    if len(parts) not in (3, 4):
        fail(line, "a row has three or four columns")
    row = Row()
    parse_match(row, parts[0], line)
    row.name = parts[1][0]
    for w in parts[2]:
        parse_operand(row, w, line)
    for w in parts[3] if len(parts) == 4 else []:
        for part in [w] if w[:2] in ("r=", "w=") else w.split(","):
            for fact in aliases[part[1:]].split() if part[0] == "%" else [part]:
                parse_fact(row, fact, line)
    return row


def expand_blocks(lines):
    """Yields table lines with @each blocks repeated: $X is a column's text, $X+n a hex sum."""
    names, items, body, state = [], [], [], None
    for line in lines:
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        if line.startswith("@each"):
            names, items, body, state = line.split()[1:], [], [], "items"
        elif line == "@do":
            state = "body"
        elif line == "@end":
            for item in items:
                for text in body:
                    yield substitute(text, names, item)
            state = None
        elif state == "items":
            fields = line.split(None, len(names) - 1)
            items.append(fields + [""] * (len(names) - len(fields)))
        elif state == "body":
            body.append(line)
        else:
            yield line


def substitute(text, names, item):
    for name, value in zip(names, item):
        text = re.sub(r"\$" + name + r"\+([0-9a-f]+)",
                      lambda m, v=value: f"{int(v, 16) + int(m.group(1), 16):02x}", text)
        text = text.replace("$" + name, value)
    return text


def expand_condition(row):
    """The sixteen condition codes become sixteen rows with exact flags."""
    for code in range(16):
        r = row.copy()
        r.first = r.last = row.first + code
        r.name = row.name.replace("cc", CONDITIONS[code])
        r.flags["R"] += CONDITION_FLAGS[code // 2]
        yield r


def vex_twin(row, length):
    """The VEX form of an SSE row: v3 has one more source in vvvv, v2 has the same operands."""
    r = row.copy()
    r.vex, r.name, r.cls = 1, "v" + row.name, "avx"
    scalar = row.twin.endswith("s")
    if row.feature not in ("AES", "PCLMUL"):
        r.feature = "AVX"
    if length is not None:
        r.cond["l"] = length
        if length == 1:
            r.feature = "AVX2"
    if row.vex_w is not None:
        r.cond["w"] = row.vex_w
    if row.twin.startswith("v3"):
        first = r.operands[0].copy()
        if scalar or first[1] in ("D", "Q"):
            first[1] = "DQ"
        first[2] = "W"
        source = first.copy()
        source[0], source[2] = "H", "R"
        r.operands = [first, source] + r.operands[1:]
    return r


def expand(row):
    rows = list(expand_condition(row)) if row.cc else [row]
    for r in rows:
        yield r
        if r.twin is None:
            continue
        if r.twin.endswith("i"):
            yield vex_twin(r, 0)
            yield vex_twin(r, 1)
        else:
            yield vex_twin(r, 0 if r.twin.endswith("l0") else None)


def finish(row):
    """Facts that follow from others."""
    if row.op is None:
        row.op = {"integer": row.name.upper(), "x87": "X87"}.get(row.cls, "VECTOR")
    kinds = [o[0] for o in row.operands]
    if MODRM_KINDS & set(kinds) or {"mod", "reg", "rm"} & set(row.cond):
        row.attrs.add("MODRM")
    if "BRANCH" in row.attrs:
        row.attrs.add("ENDS_BLOCK")
    if row.cond.get("mode") == 0:
        row.attrs.add("NO64")
    if row.cond.get("mode") == 1:
        row.attrs.add("ONLY64")
    if "M" in kinds:
        row.cond.setdefault("mod", 0)
    elif {"R", "U", "N"} & set(kinds) and "MOD_IGNORED" not in row.checks:
        row.cond.setdefault("mod", 1)
    row.memory = next((i for i, k in enumerate(kinds) if k in "EMWQO" and k), 0xff)
    if row.cls == "sse" and row.memory != 0xff and not row.unaligned:
        if row.operands[row.memory][1] in ("X", "DQ") and row.operands[row.memory][0] in "WM":
            row.attrs.add("ALIGNED")
    if row.cls == "avx":
        if any(o[0] in "VWUH" and "W" in o[2] for o in row.operands):
            row.attrs.add("ZERO_UPPER")
        if not {"H", "B"} & set(kinds):
            row.checks.add("NO_VVVV")
    if row.vex and row.cls == "integer" and not {"H", "B"} & set(kinds):
        row.checks.add("NO_VVVV")
    if {"P", "S"} & set(kinds):
        row.checks.add("REG_LOW")
    if {"Q", "N"} & set(kinds):
        row.checks.add("RM_LOW")
    if row.cond.get("prefix") == 1 and "V" not in [o[1] for o in row.operands]:
        row.checks.add("IGNORE_66")


def c_mask(prefix, names):
    return " | ".join(prefix + n for n in sorted(names)) or "0"


def c_flags(letters):
    return " | ".join("X86_" + FLAGS[c] for c in dict.fromkeys(letters)) or "0"


def c_desc(row):
    cond = row.cond
    prefix = ["NP", "66", "F3", "F2"][cond["prefix"]] if "prefix" in cond else "ANY"
    mod = ["MEMORY", "REGISTER"][cond["mod"]] if "mod" in cond else "ANY"
    fields = [str(cond.get(k, "PATTERN_ANY")) for k in ("reg", "rm", "w", "l")]
    operands = ", ".join(f"{{OPERAND_{k}, SIZE_{s}, ACCESS_{a}, {r}}}" for k, s, a, r in row.operands)
    imm = "ENTER" if row.imm == ["U16", "U8"] else (row.imm[0] if row.imm else "NONE")
    out = [f'    {{.mnemonic = "{row.name}", .op = OP_{row.op}, .class = CLASS_{row.cls.upper()},',
           f'     .feature = FEATURE_{row.feature}, .attr = {c_mask("ATTR_", row.attrs)},',
           f'     .operand_count = {len(row.operands)}, .memory = {row.memory}, .imm_form = IMM_{imm},',
           f'     .check = {c_mask("CHECK_", row.checks)}, .operand = {{{operands or "{0, 0, 0, 0}"}}},',
           f'     .gpr_read = {row.read}, .gpr_written = {row.written},']
    for key, field in zip("RWMU01", ("read", "written", "maybe", "undefined", "cleared", "set")):
        if row.flags[key]:
            out.append(f"     .flags_{field} = {c_flags(row.flags[key])},")
    out.append(f"     .pattern = {{{row.vex}, {row.map}, 0x{row.first:02x}, {row.last - row.first + 1}, "
               f"PREFIX_{prefix}, MOD_{mod}, {', '.join(fields)}}}}},")
    return "\n".join(out)


class Tree:
    """Lookup nodes: [dimension, child for each value...]; equal subtrees are shared."""

    def __init__(self):
        self.nodes, self.seen = [], {}

    def build(self, rows, dims, where):
        for i, (dim, count) in enumerate(dims):
            if not any(dim in r.cond for _, r in rows):
                continue
            children = [self.build([(n, r) for n, r in rows if r.cond.get(dim, v) == v], dims[i + 1:],
                                   where) for v in range(count)]
            if len(set(children)) == 1:
                return children[0]
            key = (dim, tuple(children))
            if key not in self.seen:
                self.seen[key] = len(self.nodes)
                self.nodes += [f"NODE_{dim.upper()}"] + children
            return self.seen[key]
        if not rows:
            return INVALID
        rank = sorted(((len(r.cond), n, r) for n, r in rows), key=lambda t: -t[0])
        if len(rank) > 1 and rank[0][0] == rank[1][0]:
            sys.exit(f"decode_table.txt: {where}: {rank[0][2].name} and {rank[1][2].name} both match")
        return 0x8000 | rank[0][1]


def emit(rows, out):
    tree = Tree()
    roots = []
    for vex, map_ in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)):
        for opcode in range(256):
            here = [(n + 1, r) for n, r in enumerate(rows)
                    if (r.vex, r.map) == (vex, map_) and r.first <= opcode <= r.last]
            modes = {r.cond.get("mode"): "MODRM" in r.attrs for _, r in here}
            if len(set(modes.values())) > 1:
                sys.exit(f"decode_table.txt: map {map_} opcode {opcode:02x}: ModRM in some rows only")
            roots.append(tree.build(here, DIMS, f"map {map_} opcode {opcode:02x}"))
    assert len(tree.nodes) < 0x8000 and len(rows) < 0x7ffe
    out.write("/* Made from decode_table.txt by decode_gen.py. */\n")
    out.write('#include "x86/decode_priv.h"\n\n')
    out.write("const struct insn_desc insn_descs[] = {\n")
    out.write('    {.mnemonic = "(bad)", .op = OP_INVALID, .memory = 0xff},\n')
    for row in rows:
        out.write(c_desc(row) + "\n")
    out.write("};\nconst unsigned insn_desc_count = ARRAY_LEN(insn_descs);\n\n")
    out.write("const u16 decode_root[DECODE_MAPS][256] = {\n")
    for base in range(0, len(roots), 256):
        out.write("    {" + ", ".join(str(r) for r in roots[base:base + 256]) + "},\n")
    out.write("};\n\nconst u16 decode_node[] = {\n    ")
    out.write(", ".join(str(n) for n in tree.nodes) + "};\n")


def main():
    aliases, rows = {}, []
    with open(sys.argv[1], encoding="ascii") as table:
        for line in expand_blocks(table):
            if line[0] == "%":
                name, _, text = line[1:].partition("=")
                aliases[name.strip()] = text.strip()
                continue
            rows += expand(parse_row(line, aliases))
    for row in rows:
        finish(row)
    with open(sys.argv[2], "w", encoding="ascii") as out:
        emit(rows, out)


main()
