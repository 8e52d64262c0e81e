package cognitoidp

import "testing"

func TestTriggersOfAPoolAreKeptAndShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const fn = "arn:aws:lambda:us-east-1:000000000000:function:"
	for _, c := range []struct{ in, out object }{
		{object{"PreSignUp": fn + "a", "PostConfirmation": fn + "b", "CustomMessage": fn + "c"}, nil},
		{object{"PreTokenGeneration": fn + "a"}, object{"PreTokenGeneration": fn + "a", "PreTokenGenerationConfig": object{"LambdaArn": fn + "a", "LambdaVersion": "V1_0"}}},
		{object{"PreTokenGenerationConfig": object{"LambdaArn": fn + "a", "LambdaVersion": "V2_0"}},
			object{"PreTokenGeneration": fn + "a", "PreTokenGenerationConfig": object{"LambdaArn": fn + "a", "LambdaVersion": "V2_0"}}},
		{object{}, nil},
	} {
		if c.out == nil {
			c.out = c.in
		}
		same(t, "the pool's triggers", dig(w.do("CreateUserPool", object{"PoolName": "p", "LambdaConfig": c.in}), "UserPool", "LambdaConfig"), c.out)
	}
	for _, c := range []struct {
		config object
		text   string
	}{
		{object{"PreAuthentication": fn + "a"}, "not offered"},
		{object{"PreTokenGenerationConfig": object{"LambdaArn": fn + "a", "LambdaVersion": "V3_0"}}, "Member must satisfy enum value set: [V1_0, V2_0]"},
		{object{"PreTokenGeneration": fn + "b", "PreTokenGenerationConfig": object{"LambdaArn": fn + "a", "LambdaVersion": "V1_0"}}, "must be the same"},
		{object{"PreSignUp": "arn:aws:iam::000000000000:role/a"}, "is not the ARN of a Lambda function"},
	} {
		w.fails("CreateUserPool", object{"PoolName": "p", "LambdaConfig": c.config}, "InvalidParameterException", c.text)
	}
}

func TestAnUpdateThatLeavesThemOutKeepsSecondFactorAndPasswordPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool := dig(w.do("CreateUserPool", object{"PoolName": "p", "MfaConfiguration": "OPTIONAL", "AutoVerifiedAttributes": []any{"email"},
		"Policies": object{"PasswordPolicy": object{"MinimumLength": 12, "RequireSymbols": false}}}), "UserPool", "Id")
	w.do("UpdateUserPool", object{"UserPoolId": pool, "DeletionProtection": "ACTIVE"})
	p := dig(w.do("DescribeUserPool", object{"UserPoolId": pool}), "UserPool").(object)
	same(t, "what is kept, and what returns to its default", []any{p["MfaConfiguration"], dig(p, "Policies", "PasswordPolicy", "MinimumLength"), dig(p, "Policies", "PasswordPolicy", "RequireSymbols"),
		p["AutoVerifiedAttributes"]}, []any{"OPTIONAL", 12, false, nil})
	w.do("UpdateUserPool", object{"UserPoolId": pool, "MfaConfiguration": "OFF"})
	same(t, "said to be off", dig(w.do("DescribeUserPool", object{"UserPoolId": pool}), "UserPool", "MfaConfiguration"), "OFF")
}
