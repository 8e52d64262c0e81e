package userpool

import (
	"testing"
	"time"
)

// TestTheErrorCatalogue is identity spec 1.10, row by row: clients use codes and texts as dictionary keys.
func TestTheErrorCatalogue(t *testing.T) {
	t.Parallel()
	const nobody = "Username/client id combination not found."
	rows := []struct {
		situation  string
		code, text string
		do         func(w *world, p *Pool, app *Client) error
	}{
		{"wrong password", "NotAuthorizedException", "Incorrect username or password.", func(w *world, p *Pool, app *Client) error {
			_, err := w.signIn(app, "ada", "wrong")
			return err
		}},
		{"unknown user", "NotAuthorizedException", "Incorrect username or password.", func(w *world, p *Pool, app *Client) error {
			_, err := w.signIn(app, "nobody", good)
			return err
		}},
		{"bad SRP signature", "NotAuthorizedException", "Incorrect username or password.", func(w *world, p *Pool, app *Client) error {
			_, err := w.srp(app, "ada", "wrong")
			return err
		}},
		{"unknown user, LEGACY, sign-in", "UserNotFoundException", "User does not exist.", func(w *world, p *Pool, _ *Client) error {
			_, err := w.srp(w.client(p, ClientSettings{ShowUnknownUsers: true}), "nobody", good)
			return err
		}},
		{"unknown user, administrator", "UserNotFoundException", "User does not exist.", func(w *world, p *Pool, _ *Client) error {
			_, err := w.User(w.t.(*testing.T).Context(), scope, p.ID, "nobody")
			return err
		}},
		{"unknown user, LEGACY, recovery", "UserNotFoundException", nobody, func(w *world, p *Pool, _ *Client) error {
			_, err := w.ForgotPassword(w.t.(*testing.T).Context(), w.request(w.client(p, ClientSettings{ShowUnknownUsers: true}), "nobody"))
			return err
		}},
		{"locked out", "NotAuthorizedException", "Password attempts exceeded", func(w *world, p *Pool, app *Client) error {
			for range 5 {
				_, _ = w.signIn(app, "ada", "wrong")
			}
			_, err := w.signIn(app, "ada", good)
			return err
		}},
		{"disabled", "NotAuthorizedException", "User is disabled.", func(w *world, p *Pool, app *Client) error {
			ok(w.t, w.EnableUser(w.t.(*testing.T).Context(), scope, p.ID, "ada", false))
			_, err := w.signIn(app, "ada", good)
			return err
		}},
		{"unconfirmed", "UserNotConfirmedException", "User is not confirmed.", func(w *world, p *Pool, app *Client) error {
			_, _, err := w.signUp(app, "eve", nil)
			ok(w.t, err)
			_, err = w.signIn(app, "eve", good)
			return err
		}},
		{"reset needed", "PasswordResetRequiredException", "Password reset required for the user", func(w *world, p *Pool, app *Client) error {
			ok(w.t, w.ResetPassword(w.t.(*testing.T).Context(), scope, p.ID, "ada"))
			_, err := w.signIn(app, "ada", good)
			return err
		}},
		{"flow off", "InvalidParameterException", "USER_SRP_AUTH is not enabled for the client.", func(w *world, p *Pool, _ *Client) error {
			_, err := w.srp(w.client(p, ClientSettings{AuthFlows: []string{"ALLOW_USER_PASSWORD_AUTH"}}), "ada", good)
			return err
		}},
		{"missing parameter", "InvalidParameterException", "Missing required parameter SRP_A", func(w *world, p *Pool, app *Client) error {
			_, err := w.InitiateAuth(w.t.(*testing.T).Context(), SignIn{ClientID: app.ID, Flow: "USER_SRP_AUTH", Parameters: secrets("USERNAME", "ada")})
			return err
		}},
		{"unknown client", "ResourceNotFoundException", "User pool client nobody does not exist.", func(w *world, p *Pool, app *Client) error {
			_, err := w.InitiateAuth(w.t.(*testing.T).Context(), SignIn{ClientID: "nobody", Flow: "USER_SRP_AUTH"})
			return err
		}},
		{"unknown pool", "ResourceNotFoundException", "User pool us-east-1_nowhere does not exist.", func(w *world, p *Pool, app *Client) error {
			_, err := w.Pool(w.t.(*testing.T).Context(), scope, "us-east-1_nowhere")
			return err
		}},
		{"existing user", "UsernameExistsException", "User already exists", func(w *world, p *Pool, app *Client) error {
			_, _, err := w.signUp(app, "ada", nil)
			return err
		}},
		{"existing user, administrator", "UsernameExistsException", "User account already exists", func(w *world, p *Pool, app *Client) error {
			_, err := w.CreateUser(w.t.(*testing.T).Context(), scope, p.ID, NewUser{Username: "ada"})
			return err
		}},
		{"weak password", "InvalidPasswordException", "Password did not conform with policy: Password must have symbol characters", func(w *world, p *Pool, app *Client) error {
			return w.SetPassword(w.t.(*testing.T).Context(), scope, p.ID, "ada", "Passw0rd11", true)
		}},
		{"wrong code", "CodeMismatchException", "Invalid verification code provided, please try again.", func(w *world, p *Pool, app *Client) error {
			_, _, err := w.signUp(app, "eve", map[string]string{"email": "eve@example.com"})
			ok(w.t, err)
			return w.ConfirmSignUp(w.t.(*testing.T).Context(), w.request(app, "eve"), "x", false)
		}},
		{"expired code", "ExpiredCodeException", "Invalid code provided, please request a code again.", func(w *world, p *Pool, app *Client) error {
			_, _, err := w.signUp(app, "eve", map[string]string{"email": "eve@example.com"})
			ok(w.t, err)
			w.pass(24 * time.Hour)
			return w.ConfirmSignUp(w.t.(*testing.T).Context(), w.request(app, "eve"), w.mail.last(w.t).Code, false)
		}},
		{"already confirmed", "NotAuthorizedException", "User cannot be confirmed. Current status is CONFIRMED", func(w *world, p *Pool, app *Client) error {
			return w.ConfirmSignUp(w.t.(*testing.T).Context(), w.request(app, "ada"), "x", false)
		}},
		{"resend when confirmed", "InvalidParameterException", "User is already confirmed.", func(w *world, p *Pool, app *Client) error {
			_, err := w.ResendCode(w.t.(*testing.T).Context(), w.request(app, "ada"))
			return err
		}},
	}
	for _, row := range rows {
		t.Run(row.situation, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.pool(open)
			app := w.client(p, ClientSettings{})
			w.user(p, "ada", map[string]string{"email": "ada@example.com", "email_verified": "true"})
			wantError(t, row.do(w, p, app), row.code, row.text)
		})
	}
}
