package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/client"
)

type authCmd struct {
	RotateKeys rotateKeysCmd `cmd:"" help:"Give a user pool new keys to sign tokens with. Tokens of before stay good."`

	Init authInitCmd `cmd:"" help:"Make what an app needs so that people can sign in and make claims, and write its configuration for Amplify: user pool, client, identity pool, roles."`
}

// authInitCmd does what amplify add auth does for an app, by the public API alone. It finds what an earlier run made by name, so
// that running it again makes only what is missing.
type authInitCmd struct {
	place
	Name     string   `help:"Name of the user pool and of the identity pool; the roles are NAME-authRole and NAME-unauthRole." default:"installers" placeholder:"NAME"`
	Template []string `help:"Provisioning template that people who have signed in may make claims for; may be given several times. Without it the permission of the role is left as it is: nothing, at first." placeholder:"NAME"`
	SignUp   bool     `help:"Let everybody make an account in a new pool, as amplify add auth does. Whoever has one may make claims."`
	Out      string   `help:"Folder for aws-exports.js (Amplify 3 to 5) and amplify-config.js (Amplify 6)." default:"src" placeholder:"DIR"`
}

// An authInit is one run: what it has found or made so far.
type authInit struct {
	*client.Client
	authInitCmd
	out io.Writer
	app appConfig

	signUp               bool   // as the pool has it
	authRole, unauthRole string // ARNs
	claims               string // policy document; empty: none asked for
	allowed              bool   // people who have signed in may make claims for something
}

func (c *authInitCmd) Run(ctx context.Context) error {
	e, err := c.env()
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	a := &authInit{Client: cl, authInitCmd: *c, out: os.Stdout, app: appConfig{Endpoint: e.Get("AWS_ENDPOINT_URL"), Region: e.Get("AWS_REGION")}}
	for _, step := range []func(context.Context) error{a.check, a.userPool, a.appClient, a.identityPool, a.roles, a.permission, a.assign} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, f := range a.app.files(a.Out) {
		did, err := f.write()
		if err != nil {
			return err
		}
		a.tell(f.path, "", did)
	}
	return a.next()
}

const (
	made  = "made"
	found = "was there"
)

func (a *authInit) tell(what, id, did string) {
	if id != "" {
		id = " " + id
	}
	fmt.Fprintf(a.out, "%s%s: %s\n", what, id, did)
}

// check refuses what would fail half-way: a template that there is not, files of somebody else.
func (a *authInit) check(ctx context.Context) error {
	for _, f := range a.app.files(a.Out) {
		if _, err := f.current(); err != nil {
			return err
		}
	}
	if len(a.Template) == 0 {
		return nil
	}
	var policy struct{ PolicyDocument string }
	err := a.REST(ctx, "imprint", http.MethodPost, "/imprint/claim-policy", object{"templateNames": a.Template, "for": "INSTALLER"}, &policy)
	if err != nil {
		return fmt.Errorf("the permission to make claims: %w (nothing was made; without --template this verb goes on, and can be run again when the template is there)", err)
	}
	a.claims = policy.PolicyDocument
	return nil
}

func (a *authInit) idp(ctx context.Context, operation string, in object, out any) error {
	return a.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService."+operation, in, out)
}

func (a *authInit) ident(ctx context.Context, operation string, in object, out any) error {
	return a.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService."+operation, in, out)
}

// A named is an entry of the lists of pools and clients.
type named struct{ ID, Name string }

// only finds the one entry of a name in a list that comes in pages; an empty id means that there is none.
func only(kind, name string, page func(token string) (entries []named, next string, err error)) (id string, err error) {
	for token := ""; ; {
		entries, next, err := page(token)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			switch {
			case e.Name != name:
			case id != "":
				return "", fmt.Errorf("there are two %ss called %s, %s and %s: delete one, or take another --name", kind, name, id, e.ID)
			default:
				id = e.ID
			}
		}
		if token = next; token == "" {
			return id, nil
		}
	}
}

// pageOf is what a list is asked for; AWS takes no empty token.
func pageOf(token string) object {
	in := object{"MaxResults": 60}
	if token != "" {
		in["NextToken"] = token
	}
	return in
}

// userPool makes what Amplify's default configuration makes: user names, a required e-mail address that is verified by a code,
// passwords of eight characters. Only sign-up is closed unless it is asked for.
func (a *authInit) userPool(ctx context.Context) (err error) {
	a.app.UserPoolID, err = only("user pool", a.Name, func(token string) ([]named, string, error) {
		var out struct {
			UserPools []struct{ Id, Name string }
			NextToken string
		}
		err := a.idp(ctx, "ListUserPools", pageOf(token), &out)
		var list []named
		for _, p := range out.UserPools {
			list = append(list, named{p.Id, p.Name})
		}
		return list, out.NextToken, err
	})
	if err != nil {
		return err
	}
	type userPool struct {
		UserPool struct {
			Id                    string
			AdminCreateUserConfig struct{ AllowAdminCreateUserOnly bool }
		}
	}
	did := found
	var pool userPool
	if a.app.UserPoolID == "" {
		did = made
		err = a.idp(ctx, "CreateUserPool", object{"PoolName": a.Name,
			"AdminCreateUserConfig":  object{"AllowAdminCreateUserOnly": !a.SignUp},
			"AutoVerifiedAttributes": []string{"email"},
			"Schema":                 []object{{"Name": "email", "AttributeDataType": "String", "Required": true, "Mutable": true}},
			"Policies":               object{"PasswordPolicy": object{"MinimumLength": passwordLength}},
			"UsernameConfiguration":  object{"CaseSensitive": false}}, &pool)
	} else {
		err = a.idp(ctx, "DescribeUserPool", object{"UserPoolId": a.app.UserPoolID}, &pool)
	}
	if err != nil {
		return fmt.Errorf("the user pool: %w", err)
	}
	a.app.UserPoolID, a.signUp = pool.UserPool.Id, !pool.UserPool.AdminCreateUserConfig.AllowAdminCreateUserOnly
	a.tell("user pool "+a.Name, a.app.UserPoolID, did)
	if a.SignUp && !a.signUp {
		fmt.Fprintln(a.out, "  sign-up stays closed: --sign-up counts for a new pool only; UpdateUserPool (AllowAdminCreateUserOnly) opens this one")
	}
	return nil
}

const passwordLength = 8

// appClientName is that of Amplify for browsers. A browser keeps no secret, so the client has none; passwords stay in the app (SRP).
const appClientName = "web"

func (a *authInit) appClient(ctx context.Context) (err error) {
	a.app.ClientID, err = only("client", appClientName, func(token string) ([]named, string, error) {
		var out struct {
			UserPoolClients []struct{ ClientId, ClientName string }
			NextToken       string
		}
		in := pageOf(token)
		in["UserPoolId"] = a.app.UserPoolID
		err := a.idp(ctx, "ListUserPoolClients", in, &out)
		var list []named
		for _, c := range out.UserPoolClients {
			list = append(list, named{c.ClientId, c.ClientName})
		}
		return list, out.NextToken, err
	})
	if err != nil {
		return err
	}
	did := found
	if a.app.ClientID == "" {
		var app struct{ UserPoolClient struct{ ClientId string } }
		if err := a.idp(ctx, "CreateUserPoolClient", object{"UserPoolId": a.app.UserPoolID, "ClientName": appClientName, "GenerateSecret": false,
			"ExplicitAuthFlows":          []string{"ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"},
			"PreventUserExistenceErrors": "ENABLED"}, &app); err != nil {
			return fmt.Errorf("the client: %w", err)
		}
		a.app.ClientID, did = app.UserPoolClient.ClientId, made
	}
	a.tell("client "+appClientName+" without a secret", a.app.ClientID, did)
	return nil
}

func (a *authInit) provider() string {
	return "cognito-idp." + a.app.Region + ".amazonaws.com/" + a.app.UserPoolID
}

func (a *authInit) identityPool(ctx context.Context) (err error) {
	a.app.IdentityPoolID, err = only("identity pool", a.Name, func(token string) ([]named, string, error) {
		var out struct {
			IdentityPools []struct{ IdentityPoolId, IdentityPoolName string }
			NextToken     string
		}
		err := a.ident(ctx, "ListIdentityPools", pageOf(token), &out)
		var list []named
		for _, p := range out.IdentityPools {
			list = append(list, named{p.IdentityPoolId, p.IdentityPoolName})
		}
		return list, out.NextToken, err
	})
	if err != nil {
		return err
	}
	type identityPool struct {
		IdentityPoolId           string
		CognitoIdentityProviders []struct{ ProviderName, ClientId string }
	}
	var pool identityPool
	did := found
	if a.app.IdentityPoolID == "" {
		did = made
		err = a.ident(ctx, "CreateIdentityPool", object{"IdentityPoolName": a.Name, "AllowUnauthenticatedIdentities": false,
			"CognitoIdentityProviders": []object{{"ProviderName": a.provider(), "ClientId": a.app.ClientID}}}, &pool)
	} else {
		err = a.ident(ctx, "DescribeIdentityPool", object{"IdentityPoolId": a.app.IdentityPoolID}, &pool)
	}
	if err != nil {
		return fmt.Errorf("the identity pool: %w", err)
	}
	a.app.IdentityPoolID = pool.IdentityPoolId
	for _, p := range pool.CognitoIdentityProviders {
		if p.ClientId == a.app.ClientID {
			a.tell("identity pool "+a.Name, a.app.IdentityPoolID, did)
			return nil
		}
	}
	return fmt.Errorf("the identity pool %s (%s) does not take tokens of the client %s: it belongs to something else; take another --name", a.Name, a.app.IdentityPoolID, a.app.ClientID)
}

// next says what is left to do.
func (a *authInit) next() error {
	var steps []string
	if !a.allowed {
		steps = append(steps, "Let people who have signed in make claims for a template of yours:\n"+
			"     "+a.again("--template TEMPLATE"))
	}
	if a.signUp {
		steps = append(steps, "People make their accounts in the app. Whoever has one may make claims.")
	} else {
		steps = append(steps, "Make an account for a person, who is sent a temporary password (by default into the outbox folder of the server):\n"+
			"     imprint aws cognito-idp admin-create-user --user-pool-id "+a.app.UserPoolID+" --username ida \\\n"+
			"       --user-attributes Name=email,Value=ida@example.com Name=email_verified,Value=true")
	}
	steps = append(steps, "In the app, Amplify 6: import config from './amplify-config'; Amplify.configure(config);\n"+
		"   Amplify 3 to 5: import awsExports from './aws-exports'; Amplify.configure(awsExports);\n"+
		"   and in index.html, before the app: <script src=\""+a.app.endpoint()+"compat/amplify-endpoints.js\"></script>")
	_, err := fmt.Fprintln(a.out, "\nNext:")
	for i, s := range steps {
		_, err = fmt.Fprintf(a.out, "%2d. %s\n", i+1, s)
	}
	return err
}

// again is the command line of another run of the same pools.
func (a *authInit) again(more string) string {
	args := []string{"imprint auth init"}
	if a.Name != "installers" {
		args = append(args, "--name "+a.Name)
	}
	return strings.Join(slices.Concat(args, []string{more}), " ")
}
