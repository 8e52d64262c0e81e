// Leads an app with Amplify 3 to 5 or the AWS SDK for JavaScript 2 to the server that this script comes from: those versions of
// Amplify have the host of the identity pool built in. Include it before the app:
//
//   <script src="https://HOST:PORT/compat/amplify-endpoints.js"></script>
//
// A copy that is served from elsewhere is told the server: <script src="amplify-endpoints.js" data-endpoint="https://HOST:PORT">.
// Calls to user and identity pools bear no signature, so another host does them no harm. Signed calls of the SDK are never
// changed; the SDK is told the endpoint before it signs.
(function () {
  "use strict";
  var script = document.currentScript;
  var endpoint = script && (script.getAttribute("data-endpoint") || (script.src && new URL(script.src).origin));
  if (!endpoint || !/^https?:\/\//.test(endpoint)) {
    throw new Error("amplify-endpoints.js: include it by a script element, with src or data-endpoint naming the server");
  }
  endpoint = endpoint.replace(/\/+$/, "");

  var unsigned = /^(cognito-idp|cognito-identity)\.[a-z0-9-]+\.amazonaws\.com$/;
  function led(url) {
    var u;
    try {
      u = new URL(url, location.href);
    } catch (e) {
      return url; // whoever is called says what is wrong with it
    }
    return u.protocol === "https:" && unsigned.test(u.hostname) ? endpoint + u.pathname + u.search : url;
  }

  var fetch = window.fetch;
  window.fetch = function (input, init) {
    if (!(input instanceof Request)) {
      return fetch.call(window, led(String(input)), init);
    }
    var request = new Request(input, init);
    var url = led(request.url);
    if (url === request.url) {
      return fetch.call(window, request);
    }
    // A Request's address is fixed, and its body can be read only once.
    return request.arrayBuffer().then(function (body) {
      return fetch.call(window, url, { method: request.method, headers: request.headers, body: body.byteLength ? body : undefined,
        mode: request.mode, credentials: request.credentials, cache: request.cache, redirect: request.redirect, signal: request.signal });
    });
  };

  var open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, url) {
    arguments[1] = led(String(url));
    return open.apply(this, arguments);
  };

  // The SDK for browsers makes itself known as window.AWS, also from within a bundle.
  var sdk = window.AWS;
  function tell() {
    if (!sdk || !sdk.config) return;
    ["cognitoidentity", "cognitoidentityserviceprovider", "iot", "sts"].forEach(function (service) {
      sdk.config[service] = sdk.config[service] || { endpoint: endpoint };
    });
  }
  tell();
  Object.defineProperty(window, "AWS", {
    configurable: true,
    enumerable: true,
    get: function () { return sdk; },
    set: function (value) { sdk = value; tell(); },
  });
})();
