// Passkeys at the sign-in pages of user pools. Browsers show them to scripts only: this one shows what needs them, asks the browser for
// one, and sends it with the form. Without it the pages still take passwords.
'use strict';
(() => {
  if (!window.PublicKeyCredential || !navigator.credentials) return;
  for (const button of document.querySelectorAll('[data-passkeys]')) button.hidden = false;
  for (const told of document.querySelectorAll('[data-without]')) told.hidden = true;
  const form = document.querySelector('form[data-passkey]');
  if (!form) return;

  const bytes = text => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
  const text = buffer => btoa(Array.from(new Uint8Array(buffer), c => String.fromCharCode(c)).join(''))
    .replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  const named = list => (list || []).map(c => ({ ...c, id: bytes(c.id) }));

  // read makes of JSON what the browser wants, written the other way round.
  const read = o => ({
    ...o,
    challenge: bytes(o.challenge),
    ...(o.user && { user: { ...o.user, id: bytes(o.user.id) } }),
    ...(o.excludeCredentials && { excludeCredentials: named(o.excludeCredentials) }),
    ...(o.allowCredentials && { allowCredentials: named(o.allowCredentials) }),
  });
  const written = c => {
    const response = {};
    for (const name of ['clientDataJSON', 'attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
      if (c.response[name]) response[name] = text(c.response[name]);
    }
    if (c.response.getTransports) response.transports = c.response.getTransports();
    return { id: c.id, rawId: text(c.rawId), type: c.type, authenticatorAttachment: c.authenticatorAttachment || undefined, response };
  };

  const failure = form.querySelector('[role=alert]');
  const fail = why => {
    failure.textContent = why;
    failure.hidden = false;
  };
  let asking = new AbortController();
  const ask = async () => {
    asking.abort(); // browsers ask for one at a time
    asking = new AbortController();
    const { signal } = asking;
    failure.hidden = true;
    const publicKey = read(JSON.parse(form.dataset.options));
    try {
      const credential = form.dataset.passkey === 'create'
        ? await navigator.credentials.create({ publicKey, signal }) : await navigator.credentials.get({ publicKey, signal });
      form.elements.credential.value = JSON.stringify(written(credential));
      form.submit();
    } catch (error) {
      if (!signal.aborted) fail(error.name === 'InvalidStateError' ? 'This device has a passkey of this account already.'
        : error.name === 'SecurityError' ? 'Passkeys of this account are for another site.'
          : 'The passkey was not used. Try again, or go another way.');
    }
  };
  form.addEventListener('submit', event => {
    event.preventDefault();
    ask();
  });
  if ('atOnce' in form.dataset) ask();
})();
