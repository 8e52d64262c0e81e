package device

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

func TestEveryCombinationOfFormatKeysAndVersionProvisions(t *testing.T) {
	t.Parallel()
	for _, format := range []string{JSON, CBOR} {
		for _, version := range []string{MQTT311, MQTT5} {
			for _, keys := range []string{"p256", "rsa2048", "server"} {
				t.Run(strings.Join([]string{format, version, keys}, " "), func(t *testing.T) {
					c, b, claim := start(t)
					cfg := configFor(t, b, claim)
					cfg.Format, cfg.MQTT, cfg.ServerKeys = format, version, keys == "server"
					if keys == "rsa2048" {
						cfg.KeyType = RSA2048
					}
					r, err := Provision(t.Context(), cfg)
					if err != nil {
						t.Fatal(err)
					}
					if r.ThingName != fakecloud.Thing || !maps.Equal(r.Configuration, fakecloud.Configuration) || r.Already || r.Resumed {
						t.Errorf("%+v", r)
					}
					if _, ok := r.Certificate().PrivateKey.(*ecdsa.PrivateKey); ok != (keys == "p256") {
						t.Errorf("the key is a %T", r.Certificate().PrivateKey)
					}
					if key, ok := r.Certificate().PrivateKey.(*rsa.PrivateKey); ok && key.Equal(fakecloud.ServerKey()) != (keys == "server") {
						t.Errorf("the key is the wrong RSA key")
					}
					if c.Things()[fakecloud.Thing] != r.CertificateID || c.LastClientID() != fakecloud.Thing {
						t.Errorf("thing has %s, client id %s", c.Things()[fakecloud.Thing], c.LastClientID())
					}
				})
			}
		}
	}
}

func TestTheFilesAreWhatOtherProgramsExpect(t *testing.T) {
	_, b, claim := start(t)
	cfg := configFor(t, b, claim)
	r, err := Provision(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]fs.FileMode{}
	filepath.WalkDir(cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		info, _ := d.Info()
		name, _ := filepath.Rel(cfg.Dir, path)
		if modes[name] = info.Mode().Perm(); d.Type() == fs.ModeSymlink {
			modes[name] = 0
		}
		return err
	})
	want := map[string]fs.FileMode{".": 0o700, "a": 0o700, "b": 0o700, "slot": 0o600, "lock": 0o600, "current": 0, "a/certificate.pem": 0o600,
		"a/private.key": 0o600, "a/ca.pem": 0o600, "a/config.json": 0o600, "a/identity.json": 0o600}
	if !maps.Equal(modes, want) {
		t.Errorf("files:\n%v\nwant:\n%v", modes, want)
	}
	var config map[string]string
	text, err := os.ReadFile(filepath.Join(cfg.Dir, "current", "config.json"))
	if err != nil || json.Unmarshal(text, &config) != nil || !maps.Equal(config, fakecloud.Configuration) {
		t.Errorf("current/config.json: %s, %v", text, err)
	}
	if ca, err := os.ReadFile(r.Files.CA); err != nil || string(ca) != b.Roots {
		t.Errorf("%s: %v", r.Files.CA, err)
	}
}

func TestAnotherClaimRotatesTheIdentityAndTheOldKeyGoes(t *testing.T) {
	c, b, claim := start(t)
	c.TakeOver = true
	cfg := configFor(t, b, claim)
	first, err := Provision(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Claim = newClaim(t, c)
	second, err := Provision(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if second.CertificateID == first.CertificateID || second.Generation != 2 || !strings.Contains(second.Files.PrivateKey, "/b/") {
		t.Errorf("%+v", second)
	}
	if _, err := os.Stat(first.Files.PrivateKey); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old key: %v", err)
	}
	cfg.Claim = nil
	if r, err := Provision(t.Context(), cfg); err != nil || !r.Already || r.CertificateID != second.CertificateID {
		t.Errorf("without a claim: %+v, %v", r, err)
	}
	cfg.Claim, cfg.Again = newClaim(t, c), true
	third, err := Provision(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Provision(t.Context(), cfg); err != nil || r.CertificateID == third.CertificateID {
		t.Errorf("again with the same claim: %+v, %v", r, err)
	}
}

// Whatever packet is lost with its connection, the next connection goes on, and there is one certificate and one thing.
func TestALostConnectionAtEachPacketIsOvercome(t *testing.T) {
	t.Parallel()
	for _, version := range []string{MQTT311, MQTT5} {
		c := fakecloud.New(t, epoch)
		b := fakecloud.NewBroker(t, c)
		if _, err := Provision(t.Context(), configFor(t, b, newClaim(t, c))); err != nil {
			t.Fatal(err)
		}
		packets := len(b.Events())
		if packets < 14 {
			t.Fatalf("only %d packets:\n%q", packets, b.Events())
		}
		for n := range packets {
			t.Run(version, func(t *testing.T) {
				c, b, claim := start(t)
				b.SetFault(func(event int, _ string) fakecloud.Fault {
					if event == n {
						return fakecloud.Drop
					}
					return fakecloud.Obey
				})
				cfg := configFor(t, b, claim)
				cfg.MQTT = version
				r, err := Provision(t.Context(), cfg)
				if err != nil {
					t.Fatalf("packet %d lost: %v\n%q", n, err, b.Events())
				}
				if all, active := c.IssuedTo(claim.ID()); all != 1 || active != 1 || c.Things()[fakecloud.Thing] != r.CertificateID {
					t.Errorf("packet %d lost: %d certificates, %d registered", n, all, active)
				}
			})
		}
	}
}

func TestRefusalsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	always := func(f fakecloud.Fault, event string) func(*fakecloud.Cloud, *fakecloud.Broker, *Config) {
		return func(_ *fakecloud.Cloud, b *fakecloud.Broker, _ *Config) {
			b.SetFault(func(_ int, e string) fakecloud.Fault {
				if strings.HasPrefix(e, event) {
					return f
				}
				return fakecloud.Obey
			})
		}
	}
	parameter := func(value string) func(*fakecloud.Cloud, *fakecloud.Broker, *Config) {
		return func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) {
			cfg.Parameters = map[string]string{fakecloud.SerialNumber: value}
		}
	}
	for _, tt := range []struct {
		name    string
		version string
		prepare func(*fakecloud.Cloud, *fakecloud.Broker, *Config)
		kind    Kind
		code    string
		status  int
		trace   string
		cure    string
	}{
		{"a parameter that the template needs is missing", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Parameters = nil },
			KindRejected, "InvalidParameters", 400, "t-4", "--param"},
		{"the hook says no", "", parameter(fakecloud.Stolen), KindRejected, "AccessDenied", 403, "t-5", "imprint explain t-5"},
		{"the thing is somebody else's", "", func(c *fakecloud.Cloud, _ *fakecloud.Broker, _ *Config) { c.GiveThing(fakecloud.Thing, "somebody") },
			KindRejected, "ResourceConflict", 409, "t-6", "another device"},
		{"the claim is dead", "", func(c *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { c.Kill(cfg.Claim.ID()) }, KindClaim, CodeClaimRefused, 0, "", "new claim"},
		{"the claim has expired", "", func(c *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) {
			c.Kill(cfg.Claim.ID())
			cfg.Now = func() time.Time { return epoch.Add(time.Hour) }
		}, KindClaim, CodeClaimExpired, 0, "", "new claim"},
		{"CONNECT is refused", MQTT311, always(fakecloud.Deny, "read Connect"), KindClaim, CodeNotAuthorized, 0, "", "iot:Connect"},
		{"CONNECT is refused in version 5", MQTT5, always(fakecloud.Deny, "read Connect"), KindClaim, CodeNotAuthorized, 0, "", "iot:Connect"},
		{"CONNECT is met with silence and the end", MQTT311, always(fakecloud.Drop, "read Connect"), KindClaim, CodeClosed, 0, "", "new claim"},
		{"SUBSCRIBE is refused", MQTT311, always(fakecloud.Deny, "read Subscribe"), KindRejected, CodeNotAuthorized, 0, "", "policy"},
		{"SUBSCRIBE is refused in version 5", MQTT5, always(fakecloud.Deny, "read Subscribe"), KindRejected, CodeNotAuthorized, 0, "", "policy"},
		{"PUBLISH is refused by hanging up", MQTT311, always(fakecloud.Deny, "read Publish $aws/certificates"), KindRejected, CodeClosed, 0, "", "template"},
		{"PUBLISH is refused in version 5", MQTT5, always(fakecloud.Deny, "read Publish $aws/certificates"), KindRejected, CodeNotAuthorized, 0, "", "template"},
		{"the claim is for another template", MQTT311, func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Template = "other" }, KindRejected, CodeClosed, 0, "",
			"bound to one template"},
		{"the answer is nonsense", "", always(fakecloud.Garble, "read Publish"), KindRejected, CodeBadAnswer, 0, "", "endpoint"},
		{"the answer lacks the token", "", func(_ *fakecloud.Cloud, b *fakecloud.Broker, _ *Config) {
			b.SetAlter(func(_ string, m map[string]any) { delete(m, "certificateOwnershipToken") })
		}, KindRejected, CodeBadAnswer, 0, "", "endpoint"},
		{"the certificate is for another key", "", func(c *fakecloud.Cloud, b *fakecloud.Broker, _ *Config) {
			foreign, _ := c.CreateKeys("x")
			b.SetAlter(func(_ string, m map[string]any) { m["certificatePem"] = foreign.Certificate })
		}, KindRejected, CodeBadAnswer, 0, "", "endpoint"},
		{"the new certificate is not accepted", "", func(c *fakecloud.Cloud, b *fakecloud.Broker, _ *Config) {
			b.SetAlter(func(_ string, m map[string]any) {
				if m["thingName"] != nil {
					c.SetActive(c.Things()[fakecloud.Thing], false)
				}
			})
		}, KindRefused, CodeRefused, 0, "", "ACTIVE"},
		{"the server is not the one we trust", "", func(c *fakecloud.Cloud, b *fakecloud.Broker, cfg *Config) {
			cfg.Roots = fakecloud.NewBroker(t, c).Roots
		},
			KindConnect, CodeUntrustedServer, 0, "", "--ca"},
		{"the server goes by another name", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Endpoint = "127.0.0.1" },
			KindConnect, CodeWrongServerName, 0, "", "endpoint"},
		{"there is no server", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Ports = []int{1}; limit(cfg) }, KindConnect, CodeUnreachable, 0, "", "network"},
		{"the clock is ahead by years", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) {
			cfg.Now = func() time.Time { return epoch.AddDate(9, 0, 0) }
			limit(cfg)
		}, KindConnect, CodeClock, 0, "", "clock"},
		{"no template is named", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Template = "" }, KindUsage, CodeUsage, 0, "", "--template"},
		{"no endpoint is named", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Endpoint = "" }, KindUsage, CodeUsage, 0, "", "--endpoint"},
		{"the endpoint is a URL", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Endpoint = "https://iot" }, KindUsage, CodeUsage, 0, "", "bare host"},
		{"the format is unknown", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Format = "xml" }, KindUsage, CodeUsage, 0, "", "json"},
		{"there is no claim", "", func(_ *fakecloud.Cloud, _ *fakecloud.Broker, cfg *Config) { cfg.Claim = nil }, KindClaim, CodeNoClaim, 0, "", "--claim"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, b, claim := start(t)
			cfg := configFor(t, b, claim)
			cfg.MQTT = tt.version
			tt.prepare(c, b, &cfg)
			_, err := Provision(t.Context(), cfg)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if e.Kind != tt.kind || e.Code != tt.code || e.StatusCode != tt.status || e.TraceID != tt.trace || !strings.Contains(e.Cure, tt.cure) {
				t.Errorf("kind %d, code %s, status %d, trace %q, cure %q: %v", e.Kind, e.Code, e.StatusCode, e.TraceID, e.Cure, e)
			}
			if strings.Contains(e.Error()+e.Cure, "PRIVATE KEY") {
				t.Error("the error shows a key")
			}
		})
	}
}

// limit lets time run out after a few attempts.
func limit(cfg *Config) {
	n := 0
	cfg.sleep = func(context.Context, time.Duration) bool { n++; return n > 3 }
}

func TestAServiceThatIsBusyIsAskedAgain(t *testing.T) {
	c, b, claim := start(t)
	c.Busy = 3
	slept := 0
	cfg := configFor(t, b, claim)
	cfg.sleep = func(context.Context, time.Duration) bool { slept++; return false }
	if _, err := Provision(t.Context(), cfg); err != nil || slept != 3 {
		t.Errorf("slept %d times, %v", slept, err)
	}
	if all, _ := c.IssuedTo(claim.ID()); all != 1 {
		t.Errorf("%d certificates", all)
	}
}

func TestATokenThatIsNotValidAnyMoreIsReplaced(t *testing.T) {
	c, b, claim := start(t)
	cfg := configFor(t, b, claim)
	cfg.Parameters = nil // rejected after the certificate was issued
	if _, err := Provision(t.Context(), cfg); KindOf(err) != KindRejected {
		t.Fatal(err)
	}
	c.Forget() // after an hour
	r, err := Provision(t.Context(), Config{Dir: cfg.Dir, Parameters: fakecloud.Parameters, Now: cfg.Now, sleep: cfg.sleep})
	if err != nil || r.ThingName != fakecloud.Thing {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnInterruptedCallIsResumedWithoutItsArguments(t *testing.T) {
	c, b, claim := start(t)
	cfg := configFor(t, b, claim)
	cfg.Format = CBOR
	cutAt(t, b, cfg, "write Publish $aws/certificates/create-from-csr/cbor/accepted")
	s, err := OpenStore(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := s.Status(); err != nil || st.Identity != nil || st.Pending == nil || st.Pending.Step != "keyed" || !st.Pending.ClaimKept {
		t.Errorf("%+v, %v", st.Pending, err)
	}
	r, err := Provision(t.Context(), Config{Dir: cfg.Dir, Now: cfg.Now})
	if err != nil || !r.Resumed || r.Already || r.ThingName != fakecloud.Thing {
		t.Errorf("%+v, %v", r, err)
	}
	if all, _ := c.IssuedTo(claim.ID()); all != 1 {
		t.Errorf("%d certificates", all)
	}
}

// cutAt runs Provision until an event, at which the call is cancelled and the connection lost.
func cutAt(t *testing.T, b *fakecloud.Broker, cfg Config, event string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	b.SetFault(func(_ int, e string) fakecloud.Fault {
		if e == event {
			cancel()
			return fakecloud.Drop
		}
		return fakecloud.Obey
	})
	if _, err := Provision(ctx, cfg); KindOf(err) != KindInterrupted {
		t.Fatalf("cut at %s: %v", event, err)
	}
	b.SetFault(nil)
}

func TestANewClaimFindsThatTheOldOneHadSucceeded(t *testing.T) {
	c, b, claim := start(t)
	cfg := configFor(t, b, claim)
	cutAt(t, b, cfg, "write Publish $aws/provisioning-templates/lamp/provision/json/accepted")
	cfg.Claim = newClaim(t, c)
	r, err := Provision(t.Context(), cfg)
	if err != nil || !r.Resumed || !r.AnswerLost || r.ThingName != "" || r.CertificateID != c.Things()[fakecloud.Thing] {
		t.Fatalf("%+v, %v", r, err)
	}
	if all, _ := c.IssuedTo(cfg.Claim.ID()); all != 0 {
		t.Errorf("the new claim was used for %d certificates", all)
	}
}

func TestANewClaimTakesOverWhereTheOldOneFailed(t *testing.T) {
	c, b, claim := start(t)
	cfg := configFor(t, b, claim)
	cutAt(t, b, cfg, "read Publish $aws/provisioning-templates/lamp/provision/json")
	key, err := os.ReadFile(filepath.Join(cfg.Dir, "a", "private.key"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Claim = newClaim(t, c)
	r, err := Provision(t.Context(), cfg)
	if err != nil || r.ClaimID != cfg.Claim.ID() || r.AnswerLost || r.ThingName != fakecloud.Thing {
		t.Fatalf("%+v, %v", r, err)
	}
	if again, err := os.ReadFile(r.Files.PrivateKey); err != nil || string(again) != string(key) {
		t.Errorf("the key has changed: a service could not tell that it is the same device (%v)", err)
	}
}

func TestOtherParametersStartAnew(t *testing.T) {
	_, b, claim := start(t)
	cfg := configFor(t, b, claim)
	cutAt(t, b, cfg, "write Publish $aws/provisioning-templates/lamp/provision/json/accepted")
	cfg.Parameters = map[string]string{fakecloud.SerialNumber: "lamp-2"}
	if r, err := Provision(t.Context(), cfg); err != nil || r.Resumed || r.ThingName != "lamp-2" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnExpiredClaimIsErasedAndSaidToBeNeeded(t *testing.T) {
	c, b, claim := start(t)
	cfg := configFor(t, b, claim)
	cutAt(t, b, cfg, "write Publish $aws/certificates/create-from-csr/json/accepted")
	c.Kill(claim.ID())
	later := Config{Dir: cfg.Dir, sleep: cfg.sleep, Now: func() time.Time { return epoch.Add(time.Hour) }}
	for range 2 {
		var e *Error
		if _, err := Provision(t.Context(), later); !errors.As(err, &e) || e.Code != CodeClaimExpired {
			t.Fatalf("%v", err)
		}
		s, err := OpenStore(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := s.Status(); err != nil || st.Pending == nil || st.Pending.ClaimKept {
			t.Errorf("%+v, %v", st.Pending, err)
		}
	}
}

func TestADeviceWithoutAClockTakesTheTimeFromItsClaim(t *testing.T) {
	_, b, claim := start(t)
	cfg := configFor(t, b, claim)
	cfg.Now = func() time.Time { return time.Unix(0, 0) }
	if r, err := Provision(t.Context(), cfg); err != nil || r.Provisioned.Before(claim.Certificate.NotBefore) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOneProcessProvisionsAtATime(t *testing.T) {
	_, b, claim := start(t)
	cfg := configFor(t, b, claim)
	s, err := OpenStore(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ensure(); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.lock()
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := Provision(t.Context(), cfg); !errors.As(err, &e) || e.Code != CodeBusy {
		t.Errorf("while locked: %v", err)
	}
	unlock()
	if _, err := Provision(t.Context(), cfg); err != nil {
		t.Error(err)
	}
}

func TestAFolderOrKeyThatOthersCanReadIsRefused(t *testing.T) {
	_, b, claim := start(t)
	cfg := configFor(t, b, claim)
	r, err := Provision(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, loose := range []string{r.Files.PrivateKey, cfg.Dir} {
		if err := os.Chmod(loose, 0o755); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStore(cfg.Dir)
		if err == nil {
			_, err = s.Identity()
		}
		var e *Error
		if !errors.As(err, &e) || e.Kind != KindStorage || e.Code != CodePermissions || !strings.Contains(e.Cure, "chmod") {
			t.Errorf("%s is open to others: %v", loose, err)
		}
		os.Chmod(loose, 0o700)
	}
}

func TestALostPointerIsFoundAgain(t *testing.T) {
	_, b, claim := start(t)
	cfg := configFor(t, b, claim)
	r, err := Provision(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{"", "\x00\x00"} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, "slot"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStore(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := s.Identity(); err != nil || id.CertificateID != r.CertificateID {
			t.Errorf("pointer %q: %v, %v", damage, id, err)
		}
	}
}
