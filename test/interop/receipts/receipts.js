// Reads {key, questions: [{receipt, entry} | {receipt, oldRoot, newRoot}]} with a JWK and base64 from standard input, verifies each
// receipt of inclusion or consistency, and writes a JSON array of {ok, error}.
import * as cose from '@transmute/cose';

const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
let input = '';
for await (const chunk of process.stdin) input += chunk;
const { key, questions } = JSON.parse(input);
const verifier = cose.detached.verifier({ resolver: { resolve: async () => key } });

async function verify({ receipt, entry, oldRoot, newRoot }) {
  try {
    const raw = bytes(receipt);
    if (entry) {
      const leaf = await cose.receipt.leaf(bytes(entry)); // HASH(0x00 || entry)
      await cose.receipt.inclusion.verify({ entry: leaf, receipt: raw, verifier });
      return { ok: true };
    }
    return { ok: await cose.receipt.consistency.verify({ oldRoot: bytes(oldRoot), newRoot: bytes(newRoot), receipt: raw, verifier }) };
  } catch (error) {
    return { ok: false, error: String(error?.message ?? error) };
  }
}

const answers = [];
for (const question of questions) answers.push(await verify(question));
console.log(JSON.stringify(answers));
