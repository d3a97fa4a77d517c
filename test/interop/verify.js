// Reads a JSON array of {cose, key, detached} in base64 from standard input, verifies each COSE_Sign1 with its COSE_Key,
// and writes a JSON array of {ok, error, alg, kid, payload}.
import { COSEKey, Sign1 } from '@auth0/cose';

const base64 = (bytes) => Buffer.from(bytes ?? []).toString('base64');
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));

async function verify({ cose, key, detached }) {
  try {
    const message = Sign1.decode(bytes(cose));
    const options = detached ? { detachedPayload: bytes(detached) } : {};
    await message.verify(await COSEKey.import(bytes(key)).toKeyLike(), options);
    return { ok: true, alg: message.alg, kid: base64(message.kid), payload: base64(message.payload) };
  } catch (error) {
    return { ok: false, error: String(error?.message ?? error) };
  }
}

let input = '';
for await (const chunk of process.stdin) input += chunk;
console.log(JSON.stringify(await Promise.all(JSON.parse(input).map(verify))));
