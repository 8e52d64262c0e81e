// A page that calls every method of Amplify 4's Auth once, in the order of a person's life. window.play() returns what became of
// each; window.codeFor(reason, nth) and window.shown(secret, ahead) are given by authmethods.mjs.
import Amplify from '@aws-amplify/core';
import { Auth } from '@aws-amplify/auth';
import awsExports from './aws-exports';

Amplify.configure(awsExports);

const password = 'Correct-Horse-7!';
const next = 'Correct-Horse-8!';
const email = 'eve@example.com';

function must(ok, what) {
  if (!ok) throw new Error('not as documented: ' + what);
}

// life is a list of [method, what its documentation says that it does, call]. A call of a method that is not offered throws.
const life = [
  ['getModuleName', 'names the category', () => must(Auth.getModuleName() === 'Auth')],
  ['configure', 'returns the configuration, and takes another', () => must(Auth.configure().userPoolId === awsExports.aws_user_pools_id)],
  ['signUp', 'makes an account and sends a code', async () => {
    const r = await Auth.signUp({ username: 'eve', password, attributes: { email } });
    must(r.userConfirmed === false && r.codeDeliveryDetails.DeliveryMedium === 'EMAIL' && r.userSub, JSON.stringify(r));
  }],
  ['resendSignUp', 'sends the code again', async () => must((await Auth.resendSignUp('eve')).CodeDeliveryDetails.DeliveryMedium === 'EMAIL')],
  ['confirmSignUp', 'confirms the account by the code', async () => must((await Auth.confirmSignUp('eve', await codeFor('sign-up', 2))) === 'SUCCESS')],
  ['signIn', 'signs in', async () => {
    const user = await Auth.signIn('eve', password);
    must(user.username === 'eve' && !user.challengeName && user.getSignInUserSession().isValid());
  }],
  ['currentUserPoolUser', 'returns the user who is signed in', async () => must((await Auth.currentUserPoolUser()).attributes.email === email)],
  ['currentAuthenticatedUser', 'returns the user who is signed in, of whatever provider', async () => must((await Auth.currentAuthenticatedUser()).username === 'eve')],
  ['currentSession', 'returns valid tokens', async () => must((await Auth.currentSession()).isValid())],
  ['userSession', 'returns the tokens of a user', async () => must((await Auth.userSession(await Auth.currentUserPoolUser())).isValid())],
  ['currentUserInfo', 'returns name, attributes and identity', async () => {
    await Auth.currentCredentials();
    const info = await Auth.currentUserInfo();
    must(info.username === 'eve' && info.attributes.email_verified === true && info.id, JSON.stringify(info));
  }],
  ['currentUserCredentials', 'returns temporary credentials of the user', async () => must((await Auth.currentUserCredentials()).authenticated)],
  ['currentCredentials', 'returns temporary credentials', async () => must((await Auth.currentCredentials()).accessKeyId.startsWith('ASIA'))],
  ['essentialCredentials', 'keeps of credentials what signs requests', async () => {
    const all = await Auth.currentCredentials();
    const kept = Auth.essentialCredentials(all);
    must(kept.secretAccessKey === all.secretAccessKey && kept.identityId === all.identityId && kept.authenticated);
  }],
  ['userAttributes', 'lists the attributes of a user', async () =>
    must((await Auth.userAttributes(await Auth.currentUserPoolUser())).some((a) => a.getName() === 'email' && a.getValue() === email))],
  ['updateUserAttributes', 'changes attributes', async () => must((await Auth.updateUserAttributes(await Auth.currentUserPoolUser(), { name: 'Eve' })) === 'SUCCESS')],
  ['deleteUserAttributes', 'removes attributes', async () => must((await Auth.deleteUserAttributes(await Auth.currentUserPoolUser(), ['name'])) === 'SUCCESS')],
  ['verifiedContact', 'tells which contacts are verified', async () => must((await Auth.verifiedContact(await Auth.currentUserPoolUser())).verified.email === email)],
  ['verifyUserAttribute', 'sends a code for an attribute of a user', async () => Auth.verifyUserAttribute(await Auth.currentUserPoolUser(), 'email')],
  ['verifyUserAttributeSubmit', 'verifies the attribute by the code', async () =>
    must((await Auth.verifyUserAttributeSubmit(await Auth.currentUserPoolUser(), 'email', await codeFor('verification', 1))) === 'SUCCESS')],
  ['verifyCurrentUserAttribute', 'sends a code for an attribute of whoever is signed in', () => Auth.verifyCurrentUserAttribute('email')],
  ['verifyCurrentUserAttributeSubmit', 'verifies that attribute by the code', async () =>
    must((await Auth.verifyCurrentUserAttributeSubmit('email', await codeFor('verification', 2))) === 'SUCCESS')],
  ['changePassword', 'changes the password', async () => must((await Auth.changePassword(await Auth.currentUserPoolUser(), password, next)) === 'SUCCESS')],
  ['setupTOTP', 'makes the secret of an authenticator app', async () => {
    window.secret = await Auth.setupTOTP(await Auth.currentUserPoolUser());
    must(/^[A-Z2-7]{52}$/.test(window.secret));
  }],
  ['verifyTotpToken', 'checks a code of that app', async () => {
    const r = await Auth.verifyTotpToken(await Auth.currentUserPoolUser(), await shown(window.secret, 0));
    must(r.Status === 'SUCCESS', JSON.stringify(r));
  }],
  ['setPreferredMFA', 'chooses the second factor', async () => must((await Auth.setPreferredMFA(await Auth.currentUserPoolUser(), 'TOTP')) === 'SUCCESS')],
  ['getPreferredMFA', 'tells the second factor', async () =>
    must((await Auth.getPreferredMFA(await Auth.currentUserPoolUser(), { bypassCache: true })) === 'SOFTWARE_TOKEN_MFA')],
  ['getMFAOptions', 'lists where codes go by SMS', async () => must(((await Auth.getMFAOptions(await Auth.currentUserPoolUser())) || []).length === 0)],
  ['enableSMS', 'turns codes by SMS on', async () => Auth.enableSMS(await Auth.currentUserPoolUser())],
  ['disableSMS', 'turns codes by SMS off', async () => Auth.disableSMS(await Auth.currentUserPoolUser())],
  ['rememberDevice', 'remembers this browser', () => Auth.rememberDevice()],
  ['fetchDevices', 'lists remembered browsers', () => Auth.fetchDevices()],
  ['forgetDevice', 'forgets this browser', () => Auth.forgetDevice()],
  ['signOut', 'signs out and revokes the refresh token', async () => {
    await Auth.signOut();
    must(await Auth.currentAuthenticatedUser().then(() => false, () => true));
  }],
  ['confirmSignIn', 'answers the question for a code', async () => {
    const user = await Auth.signIn('eve', next);
    must(user.challengeName === 'SOFTWARE_TOKEN_MFA', user.challengeName);
    must((await Auth.confirmSignIn(user, await shown(window.secret, 1), 'SOFTWARE_TOKEN_MFA')).getSignInUserSession().isValid());
  }],
  ['federatedSignIn', 'trades the token of a provider for credentials', async () => {
    const token = (await Auth.currentSession()).getIdToken().getJwtToken();
    const provider = `cognito-idp.${awsExports.aws_cognito_region}.amazonaws.com/${awsExports.aws_user_pools_id}`;
    const credentials = await Auth.federatedSignIn(provider, { token, expires_at: Date.now() + 3600_000 }, { name: 'eve' });
    must(credentials.accessKeyId.startsWith('ASIA'));
    await Auth.signOut();
  }],
  ['forgotPassword', 'sends a code for a new password', async () => must((await Auth.forgotPassword('eve')).CodeDeliveryDetails.DeliveryMedium === 'EMAIL')],
  ['forgotPasswordSubmit', 'sets the new password by the code', async () =>
    must((await Auth.forgotPasswordSubmit('eve', await codeFor('recovery', 1), password)) === 'SUCCESS')],
  ['sendCustomChallengeAnswer', 'answers a question of the pool\'s own', async () => {
    Auth.configure({ authenticationFlowType: 'CUSTOM_AUTH' });
    try {
      await Auth.sendCustomChallengeAnswer(await Auth.signIn('eve'), 'answer');
    } finally {
      Auth.configure({ authenticationFlowType: 'USER_SRP_AUTH' });
    }
  }],
  ['completeNewPassword', 'replaces the password that an administrator gave', async () => {
    const user = await Auth.signIn('ida', window.temporary);
    must(user.challengeName === 'NEW_PASSWORD_REQUIRED', user.challengeName);
    must((await Auth.completeNewPassword(user, password)).getSignInUserSession().isValid());
  }],
  ['deleteUser', 'deletes the account of whoever is signed in', async () => {
    await Auth.deleteUser();
    must(await Auth.signIn('ida', password).then(() => false, (e) => e.code === 'NotAuthorizedException'));
  }],
];

window.play = async () => {
  const became = [];
  for (const [method, does, call] of life) {
    try {
      await call();
      became.push({ method, does, error: '' });
    } catch (e) {
      became.push({ method, does, error: (e.code && e.code !== e.name ? e.code : e.name || 'Error') + ': ' + (e.message || e) });
    }
  }
  const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(Auth)).filter((m) => m !== 'constructor' && typeof Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Auth), m).value === 'function');
  return { became, methods };
};
