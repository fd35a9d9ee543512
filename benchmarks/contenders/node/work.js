// The work that every contender does, for those of Node: the same command, the same request, the
// same event as in `benchmarks/work.py`. The tests compare the bytes of both.

import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";

const ID_BYTES = 36;
const ID_CHARACTERS = 48;

/**
 * Returns a message: `id`, and `data` as in a command.
 *
 * @param {{run: string, size: number, data: object}} order what its messages have in common; size
 *   in characters of the image.
 * @param {number} number of the message.
 */
export function message({ run, size, data }, number) {
  const id = `${run}-${number}`;
  const begin = Buffer.from(id.padEnd(ID_BYTES)).toString("base64");
  return { id, data: { ...data, data_base64: begin + "A".repeat(size - ID_CHARACTERS) } };
}

/** Returns the body of a message's request, byte for byte as the SDK would send it. */
export function requestBody({ data }) {
  const image = JSON.stringify(data.data_base64);
  return `{"allocationEnabled": false, "confThresh": 0.6, "dataBase64": ${image}, "iouThresh": 0.3}`;
}

/** Returns the event that tells a message's result, about 1.9 kB of JSON. */
export function resultEvent(id, frames) {
  return JSON.stringify({
    specversion: "1.0",
    id: `${id}/succeeded`,
    source: "/trainmaster",
    type: "predict.succeeded",
    subject: id,
    time: new Date().toISOString(),
    datacontenttype: "application/json",
    data: { result: { frames }, attempts: 1 },
  });
}

/** Signs requests with an Ed25519 key, as HTTP message signatures. */
export class Signer {
  #key;
  #after;

  /** @param {string} pem the private key, PKCS #8. */
  constructor(pem) {
    this.#key = createPrivateKey(pem);
    const { x } = createPublicKey(this.#key).export({ format: "jwk" });
    const keyId = Buffer.from(x, "base64url").toString("hex");
    this.#after = `;keyid="${keyId}";alg="ed25519"`;
  }

  /** Returns the headers that sign one request, made now. */
  headers(method, target, body) {
    const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
    const created = Math.floor(Date.now() / 1000);
    const params = `("@method" "@request-target" "content-digest");created=${created}${this.#after}`;
    const base =
      `"@method": ${method}\n"@request-target": ${target}\n` +
      `"content-digest": ${digest}\n"@signature-params": ${params}`;
    const signature = sign(null, Buffer.from(base), this.#key).toString("base64");
    return {
      "Content-Digest": digest,
      "Signature-Input": `encord-sig=${params}`,
      Signature: `encord-sig=:${signature}:`,
    };
  }
}
