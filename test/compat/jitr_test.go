package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A jitr is a fleet whose devices have certificates of the customer's CA and are let in by a function, as AWS's just-in-time registration has it. All of it is
// made with openssl and the AWS CLI.
type jitr struct {
	*site
	t   *testing.T
	dir string
}

// What the function's role may do, and no more.
const registrar = `{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Action":["iot:DescribeCertificate","iot:UpdateCertificate","iot:AttachPolicy"],"Resource":"arn:aws:iot:*:*:cert/*"},
  {"Effect":"Allow","Action":["iot:CreateThing","iot:CreatePolicy","iot:AttachThingPrincipal"],"Resource":"*"}]}`

func newJITR(t *testing.T, code, runtime, handler string) *jitr {
	t.Helper()
	f := &jitr{site: functionServer(t), t: t, dir: t.TempDir()}
	f.shell(`
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -sha256 -days 30 -subj '/O=Example/CN=Lamp CA' -out ca.pem
code=$(imprint aws iot get-registration-code --query registrationCode --output text)
openssl ecparam -name prime256v1 -genkey -noout -out proof.key
openssl req -new -key proof.key -subj "/CN=$code" -out proof.csr
openssl x509 -req -in proof.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -sha256 -out proof.pem
imprint aws iot register-ca-certificate --ca-certificate file://ca.pem --verification-cert file://proof.pem --set-as-active --allow-auto-registration`)
	check(t, os.WriteFile(filepath.Join(code, "serials.json"), []byte(`{"shipped": ["4711", "4712", "4713"], "stolen": ["99"]}`), 0o644))
	check(t, os.WriteFile(filepath.Join(f.dir, "rule.json"), []byte(`{"awsIotSqlVersion": "2016-03-23", "sql": "SELECT * FROM '$aws/events/certificates/registered/#'",
  "actions": [{"lambda": {"functionArn": "`+functionARN("us-east-1", "registrar")+`"}}]}`), 0o600))
	f.shell(`
imprint aws iam create-role --role-name registrar --assume-role-policy-document '` + lambdaTrust + `'
imprint aws iam put-role-policy --role-name registrar --policy-name registrar --policy-document '` + registrar + `'
imprint function create registrar --folder ` + code + ` --runtime ` + runtime + ` --handler ` + handler + ` --role arn:aws:iam::` + account + `:role/registrar --timeout 60s --memory 256
imprint aws iot create-topic-rule --rule-name registration --topic-rule-payload file://rule.json`)
	return f
}

// shell runs commands of the guide.
func (f *jitr) shell(script string) string {
	f.t.Helper()
	return f.run(f.t, f.dir, []string{"PATH=" + bin + ":/usr/bin:" + os.Getenv("PATH")}, "bash", "-c", "set -euo pipefail\n"+script)
}

// device makes a certificate and returns its id.
func (f *jitr) device(name, serial string) string {
	f.t.Helper()
	return strings.TrimSpace(f.shell(`
openssl ecparam -name prime256v1 -genkey -noout -out ` + name + `.key
openssl req -new -key ` + name + `.key -subj /O=Example/CN=` + name + `/serialNumber=` + serial + ` -out ` + name + `.csr
openssl x509 -req -in ` + name + `.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -sha256 -out ` + name + `.pem 2>/dev/null
openssl x509 -in ` + name + `.pem -outform der | sha256sum | cut -d' ' -f1`))
}

// publishes reports whether mosquitto, as a device, gets a message to the server.
func (f *jitr) publishes(name, topic string) (string, bool) {
	f.t.Helper()
	m := mosquitto{site: f.site, dir: f.dir, clientID: name, version: "mqttv311", cert: name + ".pem", key: name + ".key"}
	out, err := f.try(f.t, f.dir, nil, "mosquitto_pub", m.args("-t", topic, "-m", "{}")...)
	return out, err == nil
}

// comes lets a device connect for the first time, which ends without an answer.
func (f *jitr) comes(name string) {
	f.t.Helper()
	if out, in := f.publishes(name, "lamps/x"); in || !strings.Contains(out, "onnection") {
		f.t.Fatalf("the first connection of %s: %s", name, out)
	}
}

func (f *jitr) status(id string) types.CertificateStatus {
	f.t.Helper()
	out, err := f.adminSDK(f.t).iot.DescribeCertificate(f.t.Context(), &iot.DescribeCertificateInput{CertificateId: &id})
	check(f.t, err)
	return out.CertificateDescription.Status
}

// until waits for a certificate's status.
func (f *jitr) until(id string, want types.CertificateStatus) {
	f.t.Helper()
	for f.status(id) != want {
		check(f.t, f.t.Context().Err())
	}
}

// says waits until imprint explain says something of a certificate.
func (f *jitr) says(id, want string) {
	f.t.Helper()
	for {
		if out := explained(f.t, f.site, id); strings.Contains(out, want) {
			return
		}
	}
}

func TestAFunctionRegistersDevicesJustInTime(t *testing.T) {
	t.Parallel()
	for name, fn := range map[string]struct{ file, runtime, handler string }{
		"python": {"app.py", "python3.12", "app.lambda_handler"},
		"node":   {"index.mjs", "nodejs20.x", "index.handler"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(filepath.Join("functions", "jitr", fn.file))
			check(t, err)
			code := folder(t, map[string]string{fn.file: string(source)})
			if name == "node" {
				nodeModules(t, code, "@aws-sdk/client-iot")
			}
			f := newJITR(t, code, fn.runtime, fn.handler)

			lamp := f.device("lamp-1", "4711")
			f.comes("lamp-1")
			f.until(lamp, types.CertificateStatusActive)
			f.says(lamp, "lamp-1 is in")
			if out, in := f.publishes("lamp-1", "lamps/4711/state"); !in {
				t.Errorf("a device that was let in: %s", out)
			}
			if _, in := f.publishes("lamp-1", "lamps/4712/state"); in {
				t.Error("a device may publish as another one")
			}
			thing, err := f.adminSDK(t).iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: new("lamp-1")})
			if err != nil || thing.Attributes["serial"] != "4711" {
				t.Errorf("the thing: %+v, %v", thing, err)
			}

			unknown := f.device("lamp-x", "666")
			f.comes("lamp-x")
			f.says(unknown, "serial number 666 is not on the list")
			if s := f.status(unknown); s != types.CertificateStatusPendingActivation {
				t.Errorf("a device that is not on the list is %s", s)
			}
			f.comes("lamp-x") // and again

			stolen := f.device("lamp-y", "99")
			f.comes("lamp-y")
			f.until(stolen, types.CertificateStatusRevoked)
			f.says(stolen, "serial number 99 was stolen")
			if _, in := f.publishes("lamp-y", "lamps/99/state"); in {
				t.Error("a revoked device came in")
			}
			f.says(stolen, "the certificate is REVOKED")
			f.says(stolen, "serial number 99 was stolen")

			f.survives()
		})
	}
}

// survives kills the server while the function thinks. The device comes once; nobody but the rule can let it in then.
func (f *jitr) survives() {
	f.t.Helper()
	f.run(f.t, f.dir, nil, imprint(), "function", "update", "registrar", "--env", "DELAY=2")
	lamp := f.device("lamp-2", "4712")
	f.comes("lamp-2")
	check(f.t, f.cmd.Process.Kill())
	<-f.exited
	again, err := start(filepath.Dir(f.data), "--unsafe-functions")
	check(f.t, err)
	f.cmd, f.env, f.exited = again.cmd, again.env, again.exited
	f.until(lamp, types.CertificateStatusActive)
	if out, in := f.publishes("lamp-2", "lamps/4712/state"); !in {
		f.t.Errorf("a device that was let in after a restart: %s", out)
	}
}
