// An app that leaves its sign-in to the hosted pages. CONFIG comes from the page.
import { Amplify } from 'aws-amplify';
import 'aws-amplify/auth/enable-oauth-listener';
import { Hub } from 'aws-amplify/utils';
import { fetchAuthSession, getCurrentUser, signInWithRedirect, signOut } from 'aws-amplify/auth';

Amplify.configure(window.CONFIG);

const root = document.getElementById('root');

function show(text, label, action) {
  root.innerHTML = '<p id="who"></p><button></button>';
  root.querySelector('p').textContent = text;
  root.querySelector('button').textContent = label;
  root.querySelector('button').onclick = () => action().catch((e) => show('failed: ' + e.message, label, action));
}

async function home(state) {
  try {
    const { username } = await getCurrentUser();
    const { tokens } = await fetchAuthSession();
    window.SEEN = { state, scope: tokens.accessToken.payload.scope, email: tokens.idToken.payload.email };
    show('signed in: ' + username, 'Sign out', () => signOut());
  } catch {
    show('signed out', 'Sign in', () => signInWithRedirect({ customState: 'came from here' }));
  }
}

let state;
Hub.listen('auth', ({ payload }) => {
  if (payload.event === 'customOAuthState') state = payload.data;
  if (payload.event === 'signInWithRedirect') setTimeout(() => home(state), 100);
  if (payload.event === 'signInWithRedirect_failure') show('failed: ' + payload.data?.error, 'Sign in', signInWithRedirect);
});
if (!location.search.includes('code=')) home();
