// An app that calls what Amplify 6 has for passkeys. CONFIG comes from the page.
import { Amplify } from 'aws-amplify';
import {
  associateWebAuthnCredential, confirmSignIn, deleteWebAuthnCredential, fetchAuthSession, listWebAuthnCredentials, signIn, signOut,
} from 'aws-amplify/auth';

Amplify.configure(window.CONFIG);

// done says how a step ended, so that the test can compare it.
const done = (step) => step.catch((error) => ({ error: error.name, message: error.message }));

window.auth = {
  signIn: (input) => done(signIn(input)),
  confirmSignIn: (challengeResponse) => done(confirmSignIn({ challengeResponse })),
  associate: () => done(associateWebAuthnCredential().then(() => 'associated')),
  list: () => done(listWebAuthnCredentials().then(({ credentials }) => credentials)),
  remove: (credentialId) => done(deleteWebAuthnCredential({ credentialId }).then(() => 'removed')),
  who: () => done(fetchAuthSession().then(({ tokens }) => tokens?.idToken.payload['cognito:username'] ?? '')),
  signOut: () => done(signOut().then(() => 'out')),
};
