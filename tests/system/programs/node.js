// Work for node's compilers, whose results do not depend on node's version: hot loops, types that change
// under compiled code, generated functions, regular expressions, WebAssembly, and threads.
const crypto = require('crypto');
const {Worker} = require('worker_threads');

const digest = (text) => crypto.createHash('md5').update(text).digest('hex');
const tell = (name, value) => console.log(`${name} ${value}`);

function hot() {
  let hash = 0;
  for (let i = 0; i < 20000000; i++) hash = (Math.imul(hash, 31) + (i ^ hash >>> 7)) | 0;
  tell('hot', hash);
}

function floats() {
  const bodies = [[0, 0, 1, 1], [3, 1, 2, -1], [-2, 5, 0.5, 0.25]];
  for (let step = 0; step < 300000; step++) {
    for (const a of bodies)
      for (const b of bodies) {
        const dx = a[0] - b[0], dy = a[1] - b[1], d = dx * dx + dy * dy + 0.1;
        a[2] -= dx / (d * Math.sqrt(d)) / 1000;
        a[3] -= dy / (d * Math.sqrt(d)) / 1000;
      }
    for (const a of bodies) {
      a[0] += a[2] / 1000;
      a[1] += a[3] / 1000;
    }
  }
  tell('floats', bodies.flat().join(' '));
}

function deoptimize() {
  const shapes = [class { f(x) { return x + 1; } }, class { f(x) { return x * 2 | 0; } },
    class { f(x) { return x ^ 0x55; } }, class { f(x) { return x - 3.5; } }].map((c) => new c());
  let sum = 0;
  for (let i = 0; i < 4000000; i++)
    sum = shapes[i % (i < 1000000 ? 1 : i < 2000000 ? 2 : i < 3000000 ? 3 : 4)].f(sum) % 1000003;
  tell('deoptimize', sum);
}

function generate() {
  let sum = 0;
  for (let i = 0; i < 1500; i++) {
    const f = new Function('x', `let s = ${i}; for (let i = 0; i < 200; i++) ` +
      `s = (s * 31 + x + ${i % 7}) | 0; return s;`);
    for (let k = 0; k < 30; k++) sum = (sum + f(k)) | 0;
  }
  tell('generate', sum);
}

function expressions() {
  let text = '', seed = 12345;
  for (let i = 0; i < 60000; i++) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    text += 'abcdefgh 0123.,\n@-_'[(seed >> 16) % 19];
  }
  for (const e of [/\b\w+@\w+/g, /(\d+)\.(\d+)/g, /(?:a|b)+c?(?=d)/g, /([a-h])\1/g, /^.*e.*$/gm,
    /(?<!a)b\w{2,5}/gi]) {
    const found = text.match(e);
    tell(`expression ${e.source}`, `${found.length} ${digest(found.join('|'))}`);
  }
  tell('replace', digest(text.replace(/(\w)(\w)/g, '$2$1')));
}

function integers() {
  let a = 1n, b = 3n;
  for (let i = 1n; i < 1500n; i++) a = a * i + 1n;
  for (let i = 0; i < 300; i++) b = b * b % ((1n << 521n) - 1n);
  tell('integers', digest(`${a} ${b}`));
}

// (func (param i32) (result i64)): a congruential generator, as many steps as the parameter says.
function assembly() {
  const body = [2, 1, 127, 1, 126, 66, 1, 33, 2, 3, 64, 32, 2, 66, 237, 156, 153, 142, 4, 126, 66, 185,
    224, 0, 124, 33, 2, 32, 1, 65, 1, 106, 34, 1, 32, 0, 72, 13, 0, 11, 32, 2, 11];
  const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 126, 3, 2, 1, 0, 7, 5, 1, 1, 102,
    0, 0, 10, body.length + 2, 1, body.length, ...body];
  const instance = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes)));
  tell('assembly', instance.exports.f(5000000));
}

function collect() {
  const counts = new Map();
  let seed = 1, list = null;
  for (let i = 0; i < 300000; i++) {
    seed = Math.imul(seed, 48271) & 0x7fffffff;
    counts.set(`k${seed % 5000}`, (counts.get(`k${seed % 5000}`) || 0) + seed % 97);
    list = {number: i, pair: [i, i + 1], text: `x${i}`, next: i % 1000 ? list : null};
  }
  tell('collect', `${digest(JSON.stringify([...counts].sort()))} ${list.text}`);
}

function threads() {
  const source = `let s = 1; for (let i = 0; i < 10000000; i++) s = (Math.imul(s, 1664525) + NUMBER) | 0;
    let t = 0; for (let i = 0; i < 2000; i++) t += eval(i + '*2+' + (s & 7));
    require('worker_threads').parentPort.postMessage(s + ' ' + t);`;
  const results = [];
  for (let i = 0; i < 3; i++)
    new Worker(source.replace('NUMBER', i + 7), {eval: true}).on('message', (result) => {
      results.push(`${i}: ${result}`);
      if (results.length === 3) tell('threads', results.sort().join(', '));
    });
}

for (const work of [hot, floats, deoptimize, generate, expressions, integers, assembly, collect, threads])
  work();
