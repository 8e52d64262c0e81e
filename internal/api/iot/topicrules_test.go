package iot

import "testing"

const (
	sql = "SqlParseException"
	una = "UnauthorizedException"
)

func TestTopicRules(t *testing.T) {
	t.Parallel()
	const (
		function = `{"lambda":{"functionArn":"arn:aws:lambda:us-east-1:000000000000:function:f"}}`
		again    = `{"republish":{"roleArn":"arn:aws:iam::000000000000:role/r","topic":"b/${topic(1)}","qos":1,"headers":{"contentType":"x","userProperties":[{"key":"k","value":"v"}]}}}`
		object   = `{"s3":{"bucketName":"${topic(1)}","key":"a/${timestamp()}","roleArn":"arn:aws:iam::111111111111:role/r"}}`
	)
	newWorld(t).play([]step{
		{do: "POST /rules/r", body: `{"sql":"SELECT * FROM 'a/+' WHERE x = 1","description":"d","actions":[` + function + `,` + again + `],"errorAction":` + again + `,"awsIotSqlVersion":"2016-03-23"}`,
			head: []string{"x-amz-tagging", "team=blue%20one&k="}},
		{do: "POST /rules/r", body: `{"sql":"SELECT * FROM 'a'","actions":[]}`, want: exi, text: "Rule with name r already exists"},
		{do: "POST /rules/a-b", body: `{"sql":"SELECT * FROM 'a'","actions":[]}`, want: inv},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FORM 'a'","actions":[]}`, want: sql},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FROM 'a'"}`, want: inv},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FROM 'a'","actions":[],"awsIotSqlVersion":"1999-01-01"}`, want: inv},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FROM 'a'","actions":[{}]}`, want: inv, text: "exactly one of"},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FROM 'a'","actions":[{"sns":{"targetArn":"arn:aws:sns:us-east-1:000000000000:t","roleArn":"arn:aws:iam::000000000000:role/r"}}]}`,
			want: inv, text: "Member TopicRulePayload.Actions.Sns of CreateTopicRule is not implemented"},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FROM 'a'","actions":[],"errorAction":{"dynamoDBv2":{"roleArn":"x","putItem":{"tableName":"t"}}}}`, want: inv, text: "ErrorAction.DynamoDBv2…is not implemented"},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FROM 'a'","actions":[{"republish":{"roleArn":"arn:aws:iam::000000000000:role/forbidden","topic":"b"}}]}`, want: "AccessDeniedException", text: "iam:PassRole"},
		{do: "POST /rules/s", body: `{"sql":"SELECT * FROM 'a'","actions":[]}`, head: []string{"x-amz-tagging", "k=1&k=2"}, want: inv},
		{do: "GET /rules/r", text: `"rule":{"actions":[` + function + `,{"republish":{"headers":{"contentType":"x","userProperties":[{"key":"k","value":"v"}]},"qos":1,"roleArn":"arn:aws:iam::000000000000:role/r","topic":"b/${topic(1)}"}}],"awsIotSqlVersion":"2016-03-23","createdAt":…,"description":"d","errorAction":{"republish":…},"ruleDisabled":false,"ruleName":"r","sql":"SELECT * FROM 'a/+' WHERE x = 1"},"ruleArn":"arn:aws:iot:us-east-1:000000000000:rule/r"`},
		{do: "PATCH /rules/r2", body: `{"sql":"SELECT * FROM 'a'","actions":[{"http":{"url":"https://a.lan","enableBatching":true}}]}`, want: inv, text: "EnableBatching"},
		{do: "POST /rules/h", body: `{"sql":"SELECT * FROM 'a'","actions":[{"http":{"url":"https://a.lan/${x}","confirmationUrl":"https://a.lan/","headers":[{"key":"k","value":"v"}],"auth":{"sigv4":{"roleArn":"arn:aws:iam::111111111111:role/r","serviceName":"s","signingRegion":"us-east-1"}}}}]}`},
		{do: "GET /rules/h", text: `"actions":[{"http":{"auth":{"sigv4":{"roleArn":"arn:aws:iam::111111111111:role/r","serviceName":"s","signingRegion":"us-east-1"}},"confirmationUrl":"https://a.lan/","headers":[{"key":"k","value":"v"}],"url":"https://a.lan/${x}"}}]`},
		{do: "DELETE /rules/h"},
		{do: "POST /rules/o", body: `{"sql":"SELECT * FROM 'a'","actions":[` + object + `,{"s3":{"roleArn":"arn:aws:iam::111111111111:role/r","bucketName":"b","key":"k","cannedAcl":"private"}}]}`},
		{do: "GET /rules/o", text: `"actions":[` + object + `,{"s3":{"bucketName":"b","cannedAcl":"private","key":"k","roleArn":"arn:aws:iam::111111111111:role/r"}}]`},
		{do: "PATCH /rules/o", body: `{"sql":"SELECT * FROM 'a'","actions":[{"s3":{"roleArn":"arn:aws:iam::111111111111:role/r","bucketName":"b","key":"k","cannedAcl":"public-read"}}]}`, want: inv, text: "CannedAcl"},
		{do: "PATCH /rules/o", body: `{"sql":"SELECT * FROM 'a'","actions":[{"s3":{"roleArn":"arn:aws:iam::111111111111:role/forbidden","bucketName":"b","key":"k"}}]}`, want: "AccessDeniedException", text: "iam:PassRole"},
		{do: "DELETE /rules/o"},
		{do: "GET /rules/none", want: una, text: "Access to topic rule 'none' was denied"},
		{do: "GET /tags?resourceArn=arn:aws:iot:us-east-1:000000000000:rule/r", text: `{"Key":"k","Value":""},{"Key":"team","Value":"blue one"}`},
		{do: "POST /tags", body: `{"resourceArn":"arn:aws:iot:us-east-1:000000000000:rule/r","tags":[{"Key":"new","Value":"x"}]}`},
		{do: "POST /tags", body: `{"resourceArn":"arn:aws:iot:us-east-1:000000000000:rule/none","tags":[{"Key":"new","Value":"x"}]}`, want: nf},
		{do: "PATCH /rules/r", body: `{"sql":"SELECT * FROM 'c/#'","actions":[]}`},
		{do: "PATCH /rules/none", body: `{"sql":"SELECT * FROM 'c/#'","actions":[]}`, want: una},
		{do: "PATCH /rules/r", body: `{"sql":"SELECT","actions":[]}`, want: sql},
		{do: "GET /rules/r", text: `"rule":{"actions":[],"awsIotSqlVersion":"2015-10-08","createdAt":…,"ruleDisabled":false,"ruleName":"r","sql":"SELECT * FROM 'c/#'"}`},
		{do: "GET /tags?resourceArn=arn:aws:iot:us-east-1:000000000000:rule/r", text: `"team"`},
		{do: "POST /rules/q", body: `{"sql":"SELECT * FROM 'a'","actions":[],"ruleDisabled":true}`},
		{do: "GET /rules?maxResults=1", text: `"nextToken":"…"rules":[{"createdAt":…,"ruleArn":"arn:aws:iot:us-east-1:000000000000:rule/q","ruleDisabled":true,"ruleName":"q","topicPattern":"a"}]`, keep: "nextToken=NEXT"},
		{do: "GET /rules?maxResults=1&nextToken=$NEXT", text: `"ruleName":"r","topicPattern":"c/#"`},
		{do: "GET /rules?topic=c%2Fd", text: `{"rules":[{…"ruleName":"r"…}]}`},
		{do: "GET /rules?ruleDisabled=false", text: `{"rules":[{…"ruleName":"r"…}]}`},
		{do: "POST /rules/q/enable"},
		{do: "POST /rules/r/disable"},
		{do: "POST /rules/none/enable", want: una},
		{do: "POST /rules/none/disable", want: una},
		{do: "GET /rules?ruleDisabled=false", text: `{"rules":[{…"ruleName":"q"…}]}`},
		{do: "DELETE /rules/r"},
		{do: "DELETE /rules/r"},
		{do: "GET /rules/r", want: una},
		{do: "GET /tags?resourceArn=arn:aws:iot:us-east-1:000000000000:rule/r", want: nf},
	})
}

func TestRuleDestinations(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:iot:us-east-1:000000000000:ruledestination/http/"
	newWorld(t).play([]step{
		{do: "POST /destinations", body: `{"destinationConfiguration":{"httpUrlConfiguration":{"confirmationUrl":"https://10.255.255.1/in"}}}`,
			text: `{"topicRuleDestination":{"arn":"` + arn + `…","createdAt":…,"httpUrlProperties":{"confirmationUrl":"https://10.255.255.1/in"},"lastUpdatedAt":…,"status":"IN_PROGRESS"}}`},
		{do: "POST /destinations", body: `{"destinationConfiguration":{"httpUrlConfiguration":{"confirmationUrl":"https://10.255.255.1/in"}}}`, want: exi},
		{do: "POST /destinations", body: `{"destinationConfiguration":{}}`, want: inv},
		{do: "POST /destinations", body: `{"destinationConfiguration":{"vpcConfiguration":{"subnetIds":["a"],"vpcId":"v","roleArn":"r"}}}`, want: inv, text: "VpcConfiguration"},
		{do: "GET /destinations/" + arn + "none", want: una},
		{do: "GET /destinations/nonsense", want: inv},
		{do: "GET /destinations", text: `{"destinationSummaries":[{"arn":"` + arn + `…"httpUrlSummary":{"confirmationUrl":"https://10.255.255.1/in"}`},
		{do: "PATCH /destinations", body: `{"arn":"` + arn + `none","status":"ENABLED"}`, want: una},
		{do: "GET /confirmdestination/nonsense", want: una},
		{do: "DELETE /destinations/" + arn + "none", want: una},
	})
}
