// Software tokens by amazon-cognito-identity-js: a first sign-in that has to set one up (MFA_SETUP after the new-password challenge),
// the next one with a code, and choices of a person who is signed in. Prints one JSON object; see mfa_test.go.
import { createHmac } from "node:crypto";
import cognito from "amazon-cognito-identity-js";

const env = process.env;

function shown(secret, step) {
  const bits = [...secret].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const sum = createHmac("sha1", key).update(counter).digest();
  return String((sum.readUInt32BE(sum[19] & 15) & 0x7fffffff) % 1000000).padStart(6, "0");
}

const step = () => Math.floor(Date.now() / 30000);

// The server takes the codes of three steps, each once: the first sign-in uses the middle one, the second the newest.
let used = 0;
const next = (secret) => shown(secret, (used = Math.max(used + 1, step())));

function newUser() {
  const pool = new cognito.CognitoUserPool({ UserPoolId: env.POOL_ID, ClientId: env.CLIENT_ID, endpoint: env.AWS_ENDPOINT_URL });
  return new cognito.CognitoUser({ Username: env.INSTALLER, Pool: pool });
}

const call = (f) => new Promise((resolve, reject) => f((err, out) => (err ? reject(err) : resolve(out))));
const wait = (f) => new Promise((onSuccess, onFailure) => f({ onSuccess, onFailure }));
const associate = (user) => new Promise((associateSecretCode, onFailure) => user.associateSoftwareToken({ associateSecretCode, onFailure }));

async function setUp() {
  const user = newUser();
  const asked = [];
  const secret = await new Promise((resolve, reject) => {
    const handlers = {
      onSuccess: () => reject(new Error("nothing was asked for")),
      onFailure: reject,
      newPasswordRequired: () => {
        asked.push("NEW_PASSWORD_REQUIRED");
        user.completeNewPasswordChallenge(env.PASSWORD, {}, handlers);
      },
      mfaSetup: (name, parameters) => {
        asked.push(name, parameters.MFAS_CAN_SETUP);
        associate(user).then(resolve, reject);
      },
    };
    user.authenticateUser(new cognito.AuthenticationDetails({ Username: env.INSTALLER, Password: env.TEMPORARY }), handlers);
  });
  let mismatch = "";
  try {
    await wait((callbacks) => user.verifySoftwareToken("000000", "x", callbacks));
  } catch (e) {
    mismatch = e.code + ": " + e.message;
  }
  const code = next(secret);
  const session = await wait((callbacks) => user.verifySoftwareToken(code, "installer's phone", callbacks));
  return { user, asked, secret, code, mismatch, valid: session.isValid() };
}

async function signIn(secret, usedCode) {
  const user = newUser();
  const asked = await new Promise((resolve, reject) =>
    user.authenticateUser(new cognito.AuthenticationDetails({ Username: env.INSTALLER, Password: env.PASSWORD }), {
      onSuccess: () => reject(new Error("no code was asked for")),
      onFailure: reject,
      totpRequired: (name, parameters) => resolve([name, parameters.FRIENDLY_DEVICE_NAME]),
    }),
  );
  const send = (code) => wait((callbacks) => user.sendMFACode(code, callbacks, "SOFTWARE_TOKEN_MFA"));
  const refused = [];
  for (const code of [usedCode, "999999x"]) {
    try {
      await send(code);
    } catch (e) {
      refused.push(e.code + ": " + e.message);
    }
  }
  const session = await send(next(secret));
  return { user, asked, refused, valid: session.isValid() };
}

const first = await setUp();
const second = await signIn(first.secret, first.code);
await call((done) => second.user.setUserMfaPreference(null, { PreferredMfa: true, Enabled: true }, done));
const data = await call((done) => second.user.getUserData(done, { bypassCache: true }));
const replaced = await associate(second.user); // signed in, by access token
await wait((callbacks) => second.user.verifySoftwareToken(shown(replaced, step()), "new phone", callbacks));
console.log(JSON.stringify({
  asked: first.asked, mismatch: first.mismatch, valid: [first.valid, second.valid], again: second.asked, refused: second.refused,
  factors: data.UserMFASettingList, preferred: data.PreferredMfaSetting, secret: replaced,
}));
process.exit(0);
