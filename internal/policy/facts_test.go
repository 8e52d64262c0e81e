package policy

import "testing"

// Facts that no statement asks for are not made, and what asks for them gets what Context would give.
func TestFactsAreMadeWhenAStatementAsks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statement string
		asked     int
		allowed   bool
	}{
		"no key":             {`{"Effect": "Allow", "Action": "*", "Resource": "*"}`, 0, true},
		"another action":     {`{"Effect": "Allow", "Action": "iot:Other", "Resource": "*", "Condition": {"StringEquals": {"aws:username": "ann"}}}`, 0, false},
		"a condition":        {`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:username": "ann"}}}`, 1, true},
		"two conditions":     {`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:username": "ann", "aws:userid": "1"}}}`, 1, false},
		"a variable":         {`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:*:*:thing/${aws:username}"}`, 1, true},
		"an absent key":      {`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Null": {"aws:userid": "true"}}}`, 1, true},
		"another's variable": {`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:*:*:thing/x${aws:username}"}`, 1, false},
	} {
		doc := MustParse(`{"Version": "2012-10-17", "Statement": `+c.statement+`}`, Identity)
		asked, facts := 0, Context{"aws:username": {"ann"}}
		r := Request{Action: "iot:CreateThing", Resource: "arn:aws:iot:us-east-1:000000000000:thing/ann"}
		late, early := r, r
		late.Facts = func() Context { asked++; return facts }
		early.Context = facts
		got, want := Evaluate([]Named{{Name: "p", Doc: doc}}, late), Evaluate([]Named{{Name: "p", Doc: doc}}, early)
		if got.Allowed() != c.allowed || got.Decision != want.Decision || asked != c.asked {
			t.Errorf("%s: %v, with Context %v; asked %d times, want %d", name, got, want, asked, c.asked)
		}
	}
}
