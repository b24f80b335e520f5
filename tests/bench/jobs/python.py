"""Pure Python work for make bench: calls, attributes, lists, dictionaries, strings, big integers."""


class Tree:
    __slots__ = ('key', 'left', 'right')

    def __init__(self, key):
        self.key, self.left, self.right = key, None, None

    def insert(self, key):
        node = self
        while node.key != key:
            side = 'left' if key < node.key else 'right'
            below = getattr(node, side)
            if below is None:
                setattr(node, side, Tree(key))
                return
            node = below

    def depth(self):
        return 1 + max(below.depth() if below else 0 for below in (self.left, self.right))


def randoms(count, state=12345):
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff
        yield state >> 33


def sieve(limit):
    flags = bytearray([1]) * limit
    for i in range(2, int(limit ** 0.5) + 1):
        if flags[i]:
            flags[i * i::i] = bytes(len(range(i * i, limit, i)))
    return sum(flags) - 2


def queens(size, row=0, columns=0, up=0, down=0):
    if row == size:
        return 1
    found, free = 0, ~(columns | up | down) & ((1 << size) - 1)
    while free:
        bit = free & -free
        free ^= bit
        found += queens(size, row + 1, columns | bit, (up | bit) << 1, (down | bit) >> 1)
    return found


def words(count):
    seen = {}
    for value in randoms(count):
        word = f'{value % 4099:x}'
        seen[word] = seen.get(word, 0) + len(word)
    return ' '.join(f'{word}={seen[word]}' for word in sorted(seen, key=lambda w: (-seen[w], w))[:5])


def main():
    tree = Tree(1 << 30)
    for value in randoms(15000):
        tree.insert(value)
    fraction = 1
    for i in range(1, 400):
        fraction = fraction * (2 * i + 1) // i + i
    print(tree.depth(), sieve(600000), queens(8), words(120000), fraction % 1000000007)
    print(sum(x * y % 7 for x, y in zip(randoms(100000, 1), randoms(100000, 2))))


main()
