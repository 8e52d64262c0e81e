package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Small services that have everything the real ones have, one for each protocol.

type document struct {
	Title *string   `wire:"title" shape:"Title"`
	Parts []part    `wire:"parts" shape:"Parts"`
	Child *document `wire:"child"`
}

type part struct {
	Key   string        `wire:"Key,required" shape:"Name"`
	Value *string       `wire:"Value"`
	Code  *fleet.Secret `wire:"Code" shape:"Secret"`
}

type putThingInput struct {
	ThingName string            `wire:"thingName,uri,required" shape:"Name"`
	Principal *string           `wire:"x-amzn-principal,header"`
	Props     *string           `wire:"x-props,header,jsonvalue"`
	Page      *int              `wire:"pageSize,querystring" shape:"Page"`
	Asc       *bool             `wire:"isAscendingOrder,querystring"`
	Since     *time.Time        `wire:"since,querystring"`
	Keys      []string          `wire:"keys,querystring" shape:"Names"`
	Attrs     map[string]string `wire:"attributes" shape:"Attrs"`
	Doc       *document         `wire:"doc"`
	Kind      *string           `wire:"kind" shape:"Kind"`
	Created   *time.Time        `wire:"created"`
	Data      []byte            `wire:"data"`
	Weight    *float64          `wire:"weight"`
	Version   *int64            `wire:"version"`
	Password  *fleet.Secret     `wire:"password" shape:"Secret"`
	Later     *string           `wire:"later"`
}

type putThingOutput struct {
	ThingName string            `wire:"thingName,required"`
	Attrs     map[string]string `wire:"attributes"`
	Names     []string          `wire:"names,required"`
	Doc       *document         `wire:"doc"`
	Created   *time.Time        `wire:"created"`
	Data      []byte            `wire:"data"`
	Weight    *float64          `wire:"weight"`
	Token     *string           `wire:"x-token,header"`
	Missing   *string           `wire:"missing"`
}

type publishInput struct {
	Topic   string `wire:"topic,uri,required"`
	Payload []byte `wire:"payload,payload"`
}

type publishOutput struct {
	Type    *string `wire:"Content-Type,header"`
	Status  *int    `wire:"status,statusCode"`
	Payload []byte  `wire:"payload,payload"`
}

type ruleInput struct {
	Name string    `wire:"name,uri,required"`
	Rule *document `wire:"rule,payload,required"`
}

type empty struct{}

var testShapes = map[string]Shape{
	"Name":   {Range: "1..8", Pattern: `[a-zA-Z0-9:_-]+`},
	"Names":  {Range: "..3", Elem: "Name"},
	"Title":  {Range: "..10"},
	"Parts":  {Range: "1..2"},
	"Page":   {Range: "1..250"},
	"Attrs":  {Range: "..2", Key: "Name", Elem: "Value"},
	"Value":  {Range: "0..8", Pattern: `[\p{Graph}]*`, RE2: `[[:graph:]]*`},
	"Kind":   {Enum: []string{"BIG", "SMALL"}},
	"Secret": {Range: "6..8", Pattern: `\S+`, Sensitive: true},
	"Policy": {Range: "1..100", Escape: true},
	"Logins": {Range: "..1", Sensitive: true, Elem: "Secret"},
}

var restModel = Model{ID: "IoT", Version: "2015-05-28", Protocol: RESTJSON, SigningNames: []string{"iot", "execute-api"},
	ValidationCode: "InvalidRequestException", Shapes: testShapes,
	Errors: map[string]int{"ResourceNotFoundException": 404, "ResourceAlreadyExistsException": 409, "ThrottlingException": 400, "InvalidRequestException": 400},
	Operations: []Operation{
		{Name: "PutThing", Method: "PUT", URI: "/things/{thingName}"},
		{Name: "DeleteThing", Method: "DELETE", URI: "/things/{thingName}", NoOutput: true},
		{Name: "ListThings", Method: "GET", URI: "/things"},
		{Name: "AddThing", Method: "PUT", URI: "/things/addThing"},
		{Name: "ReplaceRule", Method: "PATCH", URI: "/rules/{name}", Status: 204, NoOutput: true},
		{Name: "ListAuthorizers", Method: "GET", URI: "/authorizers/"},
	}}

var dataModel = Model{ID: "IoT Data Plane", Protocol: RESTJSON, SigningNames: []string{"iotdata", "iot"}, ActionPrefix: "iot",
	ValidationCode: "InvalidRequestException", Shapes: testShapes, Errors: map[string]int{"ThrottlingException": 429},
	Operations: []Operation{
		{Name: "Publish", Method: "POST", URI: "/topics/{topic+}"},
		{Name: "GetShadow", Method: "GET", URI: "/things/{thingName}/shadow"},
		{Name: "Find", Method: "GET", URI: "/layers?find=LayerVersion"},
		{Name: "Layers", Method: "GET", URI: "/layers"},
	}}

type signInInput struct {
	UserPoolId string                  `wire:"UserPoolId,required" shape:"Name"`
	Password   *fleet.Secret           `wire:"Password" shape:"Secret"`
	Logins     map[string]fleet.Secret `wire:"Logins" shape:"Logins"`
	Context    *document               `wire:"Context,sensitive"`
	Limit      *int                    `wire:"Limit" shape:"Page"`
}

type signInOutput struct {
	Token *fleet.Secret `wire:"Token"`
	At    *time.Time    `wire:"At"`
}

var jsonModel = Model{ID: "Cognito Identity Provider", Protocol: JSON11, TargetPrefix: "AWSCognitoIdentityProviderService",
	SigningNames: []string{"cognito-idp"}, ValidationCode: "InvalidParameterException", Shapes: testShapes,
	Errors: map[string]int{"NotAuthorizedException": 400, "InternalErrorException": 500},
	Operations: []Operation{
		{Name: "SignIn", Unsigned: true},
		{Name: "DeletePool", NoOutput: true},
		{Name: "Other"},
	}}

type roleInput struct {
	RoleName string            `wire:"RoleName,required" shape:"Name"`
	Policy   *string           `wire:"Policy" shape:"Policy"`
	Tags     []part            `wire:"Tags" shape:"Parts"`
	Keys     []string          `wire:"Keys" shape:"Names"`
	Map      map[string]string `wire:"Map"`
	Doc      *document         `wire:"Doc"`
	Limit    *int              `wire:"Limit" shape:"Page"`
	Since    *time.Time        `wire:"Since"`
}

type roleOutput struct {
	Policy *string           `wire:"Policy" shape:"Policy"`
	Tags   []part            `wire:"Tags,required"`
	Map    map[string]string `wire:"Map"`
	Doc    *document         `wire:"Doc"`
	Since  *time.Time        `wire:"Since"`
	Flag   bool              `wire:"Flag,required"`
}

var queryModel = Model{ID: "IAM", Version: "2010-05-08", Protocol: Query, Namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
	SigningNames: []string{"iam"}, ValidationCode: "ValidationError", Shapes: testShapes, Errors: map[string]int{"NoSuchEntity": 404},
	Operations: []Operation{{Name: "CreateRole"}, {Name: "UpdateRole"}, {Name: "DeleteRole", NoOutput: true}, {Name: "ListRoles"}}}

var otherQueryModel = Model{ID: "STS", Version: "2011-06-15", Protocol: Query, Namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
	SigningNames: []string{"sts"}, ValidationCode: "ValidationError", Operations: []Operation{{Name: "GetCallerIdentity"}, {Name: "ListRoles"}}}

// seen records what handlers and IAM were asked.
type seen struct {
	mu     sync.Mutex
	input  any
	access *Access
}

func (s *seen) put(in any) { s.mu.Lock(); s.input = in; s.mu.Unlock() }

func newFrontend(log io.Writer) (*Frontend, *seen) {
	s := &seen{}
	rest := NewService(restModel, []Row{
		Do("PutThing", func(ctx context.Context, in *putThingInput) (*putThingOutput, error) {
			s.put(in)
			switch in.ThingName {
			case "slow":
				<-ctx.Done()
				return nil, fmt.Errorf("waiting: %w", ctx.Err())
			case "missing":
				return nil, fleet.NotFound("thing", in.ThingName)
			case "exists":
				return nil, fleet.Exists("thing", in.ThingName, "Thing exists already exists in account with different attributes").With("resourceArn", "arn:x").With("resourceId", "id-1")
			case "throttle":
				return nil, &fleet.Error{Kind: fleet.KindThrottled, Msg: "Rate exceeded"}
			case "panic":
				panic("secret detail")
			case "internal":
				return nil, errors.New("secret detail")
			}
			return &putThingOutput{ThingName: in.ThingName, Attrs: in.Attrs, Doc: in.Doc, Created: in.Created, Data: in.Data, Weight: in.Weight, Token: new("é\n1")}, nil
		}).On(func(sc fleet.Scope, in *putThingInput) []string { return []string{sc.IoT("thing", in.ThingName)} }).Refuse("Later"),
		Do("DeleteThing", func(_ context.Context, in *struct {
			ThingName string `wire:"thingName,uri,required"`
		}) (*empty, error) {
			s.put(in)
			return nil, nil
		}).Action("RemoveThing").OnAny(func(sc fleet.Scope, _ *struct {
			ThingName string `wire:"thingName,uri,required"`
		}) []string {
			return []string{"arn:a"}
		}),
		Do("ListThings", func(_ context.Context, in *empty) (*empty, error) { return nil, nil }).NoPermission(),
		Do("AddThing", func(_ context.Context, in *empty) (*empty, error) { s.put(in); return nil, nil }),
		Do("ReplaceRule", func(_ context.Context, in *ruleInput) (*empty, error) { s.put(in); return nil, nil }),
	}, ErrorTable{fleet.KindNotFound: "ResourceNotFoundException"})
	data := NewService(dataModel, []Row{
		Do("Publish", func(_ context.Context, in *publishInput) (*publishOutput, error) {
			s.put(in)
			if string(in.Payload) == "throttle" {
				return nil, &fleet.Error{Kind: fleet.KindThrottled, Msg: "Rate exceeded"}
			}
			return &publishOutput{Payload: in.Payload, Status: new(202), Type: new("text/x")}, nil
		}),
		Do("Find", func(_ context.Context, in *empty) (*empty, error) { s.put("Find"); return nil, nil }),
		Do("Layers", func(_ context.Context, in *empty) (*empty, error) { s.put("Layers"); return nil, nil }),
	}, nil)
	idp := NewService(jsonModel, []Row{
		Do("SignIn", func(_ context.Context, in *signInInput) (*signInOutput, error) {
			s.put(in)
			if in.UserPoolId == "denied" {
				return nil, (&fleet.Error{Kind: fleet.KindDenied, Msg: "Incorrect username or password."}).WithCode("NotAuthorizedException")
			}
			return &signInOutput{Token: new(fleet.Secret("t0k3n")), At: new(time.UnixMilli(1544466338399))}, nil
		}).Public(),
		Do("DeletePool", func(_ context.Context, in *empty) (*empty, error) { return nil, nil }),
	}, nil)
	iam := NewService(queryModel, []Row{
		Do("CreateRole", func(_ context.Context, in *roleInput) (*roleOutput, error) {
			s.put(in)
			if in.RoleName == "none" {
				return nil, &fleet.Error{Kind: fleet.KindNotFound, Msg: "The role with name none cannot be found."}
			}
			return &roleOutput{Policy: in.Policy, Tags: in.Tags, Map: in.Map, Doc: in.Doc, Since: in.Since}, nil
		}),
		Do("UpdateRole", func(context.Context, *empty) (*empty, error) { return nil, nil }),
		Do("DeleteRole", func(context.Context, *empty) (*empty, error) { return nil, nil }),
		Do("ListRoles", func(context.Context, *empty) (*empty, error) { s.put("iam ListRoles"); return nil, nil }),
	}, nil)
	sts := NewService(otherQueryModel, []Row{
		Do("ListRoles", func(context.Context, *empty) (*empty, error) { s.put("sts ListRoles"); return nil, nil }),
	}, nil)
	f := &Frontend{
		Services: []*Service{rest, data, idp, iam, sts}, MaxBody: 4096,
		Scope: fleet.Scope{Account: "000000000000", Region: "us-east-1"},
		Clock: func() time.Time { return time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC) },
		Log:   slog.New(slog.NewTextHandler(log, nil)),
		Authenticate: func(_ context.Context, r *http.Request, _ []byte, _ *Service) (*fleet.Caller, error) {
			a := r.Header.Get("Authorization")
			if code, ok := strings.CutPrefix(a, "bad "); ok {
				return nil, &fleet.Error{Kind: fleet.KindUnauthenticated, Code: code, Msg: "The signature is bad: " + code}
			}
			return &fleet.Caller{Scope: fleet.Scope{Account: "000000000000", Region: "us-east-1"}, ARN: "arn:aws:iam::000000000000:user/u"}, nil
		},
		Authorize: func(_ context.Context, c *fleet.Caller, a Access) error {
			s.mu.Lock()
			s.access = &a
			s.mu.Unlock()
			if strings.Contains(fmt.Sprint(a.Resources), "denied") {
				return fleet.Denied("User: %s is not authorized to perform: %s on resource: %s", c.ARN, a.Action, a.Resources[0])
			}
			return nil
		},
	}
	return f, s
}
