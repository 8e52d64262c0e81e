package wire

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func serve(f http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func TestBrowsersMayAskAndSeeErrors(t *testing.T) {
	t.Parallel()
	f, _ := newFrontend(io.Discard)
	w := serve(f, "OPTIONS", "/any/where", "", "Origin", "https://app.example", "Access-Control-Request-Headers", "authorization, x-amz-date",
		"Access-Control-Request-Private-Network", "true")
	for k, want := range map[string]string{
		"Access-Control-Allow-Origin":          "*",
		"Access-Control-Allow-Headers":         "authorization, x-amz-date",
		"Access-Control-Allow-Methods":         "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
		"Access-Control-Allow-Private-Network": "true",
		"Access-Control-Max-Age":               "7200",
	} {
		if got := w.Header().Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if w.Code != http.StatusNoContent {
		t.Errorf("preflight answered %d", w.Code)
	}
	w = serve(f, "GET", "/nothing", "", "Origin", "https://app.example")
	if w.Code != 404 || w.Header().Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), "x-amzn-ErrorType") {
		t.Errorf("an error hides from browsers: %d %v", w.Code, w.Header())
	}
}

func TestOriginsCanBeListed(t *testing.T) {
	t.Parallel()
	f, _ := newFrontend(io.Discard)
	f.CORS.Origins = []string{"https://app.example"}
	for origin, want := range map[string]string{"https://app.example": "https://app.example", "https://evil.example": "", "": ""} {
		for _, method := range []string{"OPTIONS", "GET"} {
			w := serve(f, method, "/things", "", "Origin", origin)
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s from %q allows %q", method, origin, got)
			}
			if !strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Origin") {
				t.Errorf("%s from %q does not vary by origin", method, origin)
			}
		}
	}
}

func TestEveryAnswerHasAnIDAndADate(t *testing.T) {
	t.Parallel()
	f, _ := newFrontend(io.Discard)
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, target := range []string{"/things", "/nothing"} {
		h := serve(f, "GET", target, "").Header()
		if !uuid.MatchString(h.Get("x-amzn-RequestId")) || h.Get("Date") != "Sat, 21 Nov 2026 00:00:00 GMT" {
			t.Errorf("%s: %v", target, h)
		}
	}
}

func TestOneLogLinePerRequestWithoutSecrets(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f, _ := newFrontend(&log)
	var events []Event
	f.Observe = func(e Event) { events = append(events, e) }
	serve(f, "POST", "/", `{"UserPoolId":"p_1","Password":"hunter22"}`, "X-Amz-Target", "AWSCognitoIdentityProviderService.SignIn", "Authorization", "hunter22")
	serve(f, "PUT", "/things/lamp?X-Amz-Security-Token=hunter22", `{"password":"hunter2 2"}`)
	if n := strings.Count(log.String(), "\n"); n != 2 || len(events) != 2 {
		t.Errorf("%d lines, %d events", n, len(events))
	}
	if strings.Contains(log.String(), "hunter") {
		t.Error("the log tells a secret: ", log.String())
	}
	for _, want := range []string{"operation=SignIn status=200", "operation=PutThing status=400", "caller=arn:aws:iam::000000000000:user/u", "error=InvalidRequestException"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
	if e := events[1]; e.Code != "InvalidRequestException" || e.Status != 400 || e.Kind != fleet.KindInvalid || e.Service != "iot" {
		t.Errorf("%+v", e)
	}
}

func TestInternalCausesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f, _ := newFrontend(&log)
	for _, name := range []string{"internal", "panic"} {
		log.Reset()
		w := serve(f, "PUT", "/things/"+name, "")
		if w.Code != 500 || strings.Contains(w.Body.String(), "secret detail") {
			t.Errorf("%s answered %d %s", name, w.Code, w.Body)
		}
		if n := strings.Count(log.String(), "secret detail"); n != 1 {
			t.Errorf("%s is logged %d times", name, n)
		}
	}
}

func TestAClientThatDoesNotWaitIsNoFaultOfTheServer(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f, _ := newFrontend(&log)
	var event Event
	f.Observe = func(e Event) { event = e }
	ctx, leave := context.WithCancel(t.Context())
	leave()
	f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("PUT", "/things/slow", nil).WithContext(ctx))
	if event.Status != StatusClientGone || event.Err == nil || strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "status=499") {
		t.Errorf("status %d, error %v, log %s", event.Status, event.Err, log.String())
	}
	// An error that is ours stays one, whether or not the client has gone.
	log.Reset()
	f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("PUT", "/things/internal", nil).WithContext(ctx))
	if event.Status != 500 || !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("status %d, log %s", event.Status, log.String())
	}
}

func TestRequestsAreRefusedInTheirOwnProtocol(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f, _ := newFrontend(&log)
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.Refuse(w, r, &fleet.Error{Kind: fleet.KindThrottled, Msg: "Rate exceeded", RetryAfter: 1500 * time.Millisecond})
	})
	for code, w := range map[string]*httptest.ResponseRecorder{
		"ThrottlingException":      serve(refuse, "PUT", "/things/lamp", "", "Authorization", "bad InvalidSignature"),
		"TooManyRequestsException": serve(refuse, "POST", "/", "{}", "X-Amz-Target", "None.Such"),
		"<Code>Throttling</Code>":  serve(refuse, "POST", "/", "Action=X", "Content-Type", "application/x-www-form-urlencoded"),
	} {
		if !strings.Contains(w.Body.String(), code) || w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "2" || w.Header().Get("X-Amzn-Requestid") == "" {
			t.Errorf("%s: %d %v %s", code, w.Code, w.Header(), w.Body)
		}
	}
	if log.Len() > 0 {
		t.Errorf("a flood can fill the log: %s", &log)
	}
}

func TestABudgetMayStopABody(t *testing.T) {
	t.Parallel()
	f, _ := newFrontend(io.Discard)
	r := httptest.NewRequest("PUT", "/things/lamp", io.NopCloser(iotest.ErrReader(&fleet.Error{Kind: fleet.KindThrottled, Msg: "Rate exceeded", RetryAfter: time.Second})))
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("X-Amzn-Errortype") != "ThrottlingException" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestScopeOfTheSignatureChoosesAmongServices(t *testing.T) {
	t.Parallel()
	model := func(id string, names ...string) *Service {
		return NewService(Model{ID: id, SigningNames: names, Protocol: RESTJSON, Operations: []Operation{{Name: "Get", Method: "GET", URI: "/x"}}}, nil, nil)
	}
	f := &Frontend{Services: []*Service{model("a", "iot", "execute-api"), model("b", "iotdata", "iot", "execute-api"), model("c", "lambda")}}
	f.once.Do(f.index)
	for scope, want := range map[string]string{"iot": "iot", "execute-api": "iot", "iotdata": "iotdata", "lambda": "lambda", "s3": "iot", "": "iot"} {
		r := httptest.NewRequest("GET", "/x", nil)
		if scope != "" {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=A/20250101/us-east-1/"+scope+"/aws4_request, SignedHeaders=host, Signature=0")
		}
		if got := f.dispatch(&message{http: r}).service.Name(); got != want {
			t.Errorf("scope %q leads to %s, want %s", scope, got, want)
		}
		r = httptest.NewRequest("GET", "/x?a=b&X-Amz-Credential=A%2F20250101%2Fus-east-1%2F"+scope+"%2Faws4_request", nil)
		if got := f.dispatch(&message{http: r}).service.Name(); got != want {
			t.Errorf("presigned for %q leads to %s, want %s", scope, got, want)
		}
	}
}

func TestATableMustFitItsModel(t *testing.T) {
	t.Parallel()
	handler := func() *Op[empty, empty] { return Do[empty, empty]("ListThings", nil) }
	for name, rows := range map[string][]Row{
		"has no such operation": {Do[empty, empty]("Dance", nil)},
		"has two rows":          {handler(), handler()},
		"model says unsigned":   {handler().Public()},
		"refused member Color":  {handler().Refuse("Color")},
	} {
		func() {
			defer func() {
				if p, _ := recover().(string); !strings.Contains(p, name) {
					t.Errorf("want a panic about %q, got %q", name, p)
				}
			}()
			NewService(restModel, rows, nil)
		}()
	}
}

// TestRefusedMembersAreFoundWhereverTheyAre: also in structures within, and in elements of lists.
func TestRefusedMembersAreFoundWhereverTheyAre(t *testing.T) {
	t.Parallel()
	type inner struct{ Color, Size *string }
	type input struct {
		One   *inner
		List  []inner
		Names []string
	}
	row := &row{name: "Paint", refused: []string{"One.Color", "List.Color", "Names"}}
	for _, name := range row.refused {
		if !has(reflect.TypeFor[input](), strings.Split(name, ".")) {
			t.Errorf("%s is not found", name)
		}
	}
	for _, name := range []string{"One.Shape", "Two.Color", "One.Color.Hue"} {
		if has(reflect.TypeFor[input](), strings.Split(name, ".")) {
			t.Errorf("%s is found", name)
		}
	}
	red := inner{Color: new("red")}
	for _, c := range []struct {
		in   input
		want string
	}{
		{input{}, ""}, {input{One: &inner{Size: new("1")}, List: []inner{{}, {Size: new("2")}}}, ""},
		{input{One: &red}, "One.Color"}, {input{List: []inner{{}, red}}, "List.Color"}, {input{Names: []string{}}, ""}, {input{Names: []string{"a"}}, "Names"},
	} {
		err := row.refuse(&c.in)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), "Member "+c.want+" of Paint") {
			t.Errorf("%+v: %v, want %q", c.in, err, c.want)
		}
	}
}

func TestCoverageListsRowsAndModel(t *testing.T) {
	t.Parallel()
	f, _ := newFrontend(io.Discard)
	c := f.Services[0].Coverage()
	if c.Service != "iot" || len(c.Modelled) != 6 || len(c.Implemented) != 5 || c.Implemented[3].Operation != "PutThing" ||
		c.Implemented[3].Input.Name() != "putThingInput" || c.Implemented[3].Refused[0] != "Later" {
		t.Errorf("%+v", c)
	}
}
