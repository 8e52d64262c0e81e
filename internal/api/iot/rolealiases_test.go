package iot

import (
	"fmt"
	"testing"
)

const (
	denied = "AccessDeniedException"
	lim    = "LimitExceededException"
)

func TestRoleAliases(t *testing.T) {
	t.Parallel()
	const role = "arn:aws:iam::000000000000:role/telemetry"
	w := newWorld(t)
	w.play([]step{
		{do: "POST /role-aliases/meters", body: `{"roleArn":"` + role + `","tags":[{"Key":"team","Value":"red"}]}`,
			text: `{"roleAlias":"meters","roleAliasArn":"arn:aws:iot:us-east-1:000000000000:rolealias/meters"}`},
		{do: "POST /role-aliases/meters", body: `{"roleArn":"` + role + `"}`, want: exi, text: `"resourceArn":"arn:aws:iot:us-east-1:000000000000:rolealias/meters"`},
		{do: "POST /role-aliases/a.b", body: `{"roleArn":"` + role + `"}`, want: inv, text: "roleAlias"},
		{do: "POST /role-aliases/x", body: `{}`, want: inv, text: "roleArn"},
		{do: "POST /role-aliases/x", body: `{"roleArn":"arn:aws:iam::000000000000:user/telemetry"}`, want: inv, text: "is not the ARN of a role"},
		{do: "POST /role-aliases/x", body: `{"roleArn":"arn:aws:iam::222222222222:role/telemetry"}`, want: inv, text: "another account"},
		{do: "POST /role-aliases/x", body: `{"roleArn":"arn:aws:iam::000000000000:role/forbidden"}`, want: denied, text: "iam:PassRole"},
		{do: "POST /role-aliases/x", body: `{"roleArn":"` + role + `","credentialDurationSeconds":899}`, want: inv},
		{do: "POST /role-aliases/x", body: `{"roleArn":"` + role + `","credentialDurationSeconds":43201}`, want: inv},
		{do: "POST /role-aliases/=a,b@c", body: `{"roleArn":"` + role + `","credentialDurationSeconds":900}`},
		{do: "GET /role-aliases/meters", text: `{"roleAliasDescription":{"creationDate":17…"credentialDurationSeconds":3600,"lastModifiedDate":17…"owner":"000000000000","roleAlias":"meters",` +
			`"roleAliasArn":"arn:aws:iot:us-east-1:000000000000:rolealias/meters","roleArn":"` + role + `"}}`},
		{do: "GET /role-aliases/none", want: nf},
		{do: "PUT /role-aliases/meters", body: `{"credentialDurationSeconds":900}`, text: `"roleAlias":"meters"`},
		{do: "PUT /role-aliases/meters", body: `{"roleArn":"arn:aws:iam::000000000000:role/path/other"}`},
		{do: "PUT /role-aliases/meters", body: `{"roleArn":"arn:aws:iam::000000000000:role/forbidden"}`, want: denied},
		{do: "PUT /role-aliases/meters", body: `{"roleArn":"arn:aws:iam::222222222222:role/other"}`, want: inv},
		{do: "PUT /role-aliases/none", body: `{"credentialDurationSeconds":900}`, want: nf},
		{do: "GET /role-aliases/meters", text: `"credentialDurationSeconds":900…"roleArn":"arn:aws:iam::000000000000:role/path/other"`},
		{do: "GET /role-aliases?isAscendingOrder=true&pageSize=1", text: `"roleAliases":["=a,b@c"]`, keep: "nextMarker=NEXT"},
		{do: "GET /role-aliases?isAscendingOrder=true&pageSize=1&marker=$NEXT", text: `{"roleAliases":["meters"]}`},
		{do: "GET /role-aliases?marker=$NEXT", want: inv},
		{do: "GET /role-aliases", text: `{"roleAliases":["meters","=a,b@c"]}`},
		{do: "GET /tags?resourceArn=arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Arolealias%2Fmeters", text: `{"tags":[{"Key":"team","Value":"red"}]}`},
		{do: "DELETE /role-aliases/meters"},
		{do: "DELETE /role-aliases/meters", want: nf},
		{do: "GET /tags?resourceArn=arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Arolealias%2Fmeters", want: nf},
		{do: "POST /role-aliases/meters", body: `{"roleArn":"` + role + `"}`},
		{do: "GET /tags?resourceArn=arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Arolealias%2Fmeters", text: `{"tags":[]}`},
	})
	var more []step
	for i := range 99 {
		s := step{do: fmt.Sprintf("POST /role-aliases/more%d", i), body: `{"roleArn":"` + role + `"}`}
		if i == 98 {
			s.want, s.text = lim, "100 are allowed"
		}
		more = append(more, s)
	}
	w.play(more)
}
