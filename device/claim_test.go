package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

// claimText is a claim in the form of our bundle; change alters its members.
func claimText(t testing.TB, change func(map[string]any)) string {
	t.Helper()
	c := newClaim(t, fakecloud.New(t, epoch))
	text, err := c.marshal()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	text, err = json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestABundleSaysWhereToGo(t *testing.T) {
	t.Parallel()
	b := fakecloud.NewBroker(t, fakecloud.New(t, epoch))
	c, err := ParseClaim([]byte(claimText(t, func(m map[string]any) {
		m["endpoint"], m["ports"], m["roots"], m["templateName"] = "iot.lan", []int{443}, b.Roots, fakecloud.Template
		m["parameters"], m["time"], m["wifi"] = fakecloud.Parameters, "2026-11-21T10:00:00Z", "ignored"
	})))
	if err != nil {
		t.Fatal(err)
	}
	if c.Endpoint != "iot.lan" || !slices.Equal(c.Ports, []int{443}) || c.Roots != b.Roots || c.Template != fakecloud.Template ||
		!maps.Equal(c.Parameters, fakecloud.Parameters) || !c.Time.Equal(epoch) || !c.Temporary() {
		t.Errorf("%+v", c)
	}
	text, err := c.marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseClaim(text)
	if err != nil || again.ID() != c.ID() || !again.Time.Equal(c.Time) || !maps.Equal(again.Parameters, c.Parameters) {
		t.Errorf("stored and read back: %+v, %v", again, err)
	}
}

func TestAClaimMayBePEM(t *testing.T) {
	t.Parallel()
	want := newClaim(t, fakecloud.New(t, epoch))
	text, err := want.marshal()
	if err != nil {
		t.Fatal(err)
	}
	var m claimJSON
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for _, pem := range []string{m.CertificatePEM + m.PrivateKey, "\n" + m.PrivateKey + "\n" + m.CertificatePEM} {
		c, err := ParseClaim([]byte(pem))
		if err != nil || c.ID() != want.ID() || string(c.keyPEM) != string(want.keyPEM) {
			t.Errorf("%v, %v", c, err)
		}
	}
}

func TestABadClaimIsRefusedWithoutBeingQuoted(t *testing.T) {
	t.Parallel()
	otherKey := string(newClaim(t, fakecloud.New(t, epoch)).keyPEM)
	set := func(name string, value any) string { return claimText(t, func(m map[string]any) { m[name] = value }) }
	many := map[string]string{}
	for i := range maxParameters + 1 {
		many[fmt.Sprint(i)] = "x"
	}
	for name, text := range map[string]string{
		"nothing":                    "",
		"no JSON":                    "{certificatePem",
		"another type":               `{"certificatePem": 5}`,
		"a list":                     "[]",
		"no key":                     claimText(t, func(m map[string]any) { delete(m, "privateKey") }),
		"no certificate":             claimText(t, func(m map[string]any) { delete(m, "certificatePem") }),
		"somebody else's key":        set("privateKey", otherKey),
		"a certificate that is none": set("certificatePem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"a template that is none":    set("templateName", "a/b"),
		"a port that is none":        set("ports", []int{0}),
		"too many ports":             set("ports", make([]int, maxPorts+1)),
		"a long endpoint":            set("endpoint", strings.Repeat("a", 300)),
		"too many parameters":        set("parameters", many),
		"a huge parameter":           set("parameters", map[string]string{"a": strings.Repeat("b", maxParameter+1)}),
		"a parameter without name":   set("parameters", map[string]string{"": "b"}),
		"a number as parameter":      set("parameters", map[string]any{"a": 1}),
		"roots that are none":        set("roots", "none"),
		"a time that is none":        set("time", "tomorrow"),
		"a time before all time":     set("time", -5),
		"too much":                   strings.Repeat(" ", MaxClaimSize+1),
	} {
		_, err := ParseClaim([]byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindClaim || e.Code != CodeClaimMalformed {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(e.Error(), "PRIVATE") || strings.Contains(e.Error(), "AAAA") {
			t.Errorf("%s: the error quotes the claim: %v", name, e)
		}
	}
}

func TestAFormattedClaimHidesItsKey(t *testing.T) {
	t.Parallel()
	c := newClaim(t, fakecloud.New(t, epoch))
	line := strings.Split(string(c.keyPEM), "\n")[1]
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s", c, c, c, c), fmt.Sprint(c.LogValue())} {
		if strings.Contains(s, line) || strings.Contains(s, "keyPEM") {
			t.Errorf("shown: %s", s)
		}
	}
}

func TestOnlyAClaimOfMinutesIsTemporary(t *testing.T) {
	t.Parallel()
	c := newClaim(t, fakecloud.New(t, epoch))
	c.Certificate.NotAfter = c.Certificate.NotBefore.Add(25 * time.Hour)
	if c.Temporary() {
		t.Error("a claim of more than a day is a bootstrap certificate")
	}
}

func FuzzParseClaim(f *testing.F) {
	f.Add([]byte(claimText(f, func(map[string]any) {})))
	for _, member := range []map[string]any{{"time": 1700000000.5}, {"time": "2026-01-02T03:04:05Z"}, {"time": "yesterday"}, {"time": -1}, {"time": -1e18}, {"time": 1e18}, {"time": nil}, {"time": []int{}},
		{"templateName": "lamps"}, {"templateName": "a b"}, {"ports": []int{8883, 443}}, {"ports": []int{0}}, {"ports": make([]int, maxPorts+1)},
		{"endpoint": strings.Repeat("x", 300)}, {"parameters": map[string]any{"SerialNumber": "7"}}, {"parameters": map[string]any{"": "7"}}, {"roots": "none"}} {
		f.Add([]byte(claimText(f, func(c map[string]any) { maps.Copy(c, member) })))
	}
	f.Add([]byte(`{"certificatePem":"x","keyPair":{"PrivateKey":"y"},"expiration":1595955066.0}`))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClaim(b)
		if err != nil {
			if KindOf(err) != KindClaim {
				t.Fatalf("%v", err)
			}
			return
		}
		if c.Time.Year() > 40000 || !c.Time.IsZero() && c.Time.Unix() < -1<<36 || slices.ContainsFunc(c.Ports, func(p int) bool { return p < 1 || p > 65535 }) {
			t.Fatalf("time %v, ports %v", c.Time, c.Ports)
		}
		text, err := c.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseClaim(text); err != nil || again.ID() != c.ID() {
			t.Fatalf("stored, it cannot be read: %v", err)
		}
	})
}
