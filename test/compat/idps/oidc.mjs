// An OpenID Connect provider made with the library oidc-provider, on loopback with TLS. It takes any name without looking at a password,
// asks for consent, and is as strict with its clients as the library is. Prints its issuer.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { Provider } from "oidc-provider";

const env = process.env;
const server = createServer({ cert: readFileSync(env.CERTIFICATE), key: readFileSync(env.KEY) });
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `https://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{ client_id: "imprint", client_secret: env.SECRET, redirect_uris: [env.REDIRECT], grant_types: ["authorization_code"], response_types: ["code"] }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "email", "groups"],
  pkce: { required: () => true, methods: ["S256"] },
  cookies: { keys: ["loopback"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, groups: ["Factory", "Board"] }),
  }),
});
server.on("request", provider.callback());
console.log(issuer);
