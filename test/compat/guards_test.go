package compat

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// guarded gives the world's template settings, as a version of its own.
func (w *world) guarded(t *testing.T, settings object) {
	t.Helper()
	body := w.templateBody()
	body["Mappings"].(object)["Imprint"] = object{"Settings": settings}
	old, err := w.admin.iot.DescribeProvisioningTemplate(t.Context(), &iot.DescribeProvisioningTemplateInput{TemplateName: &w.template})
	check(t, err)
	_, err = w.admin.iot.CreateProvisioningTemplateVersion(t.Context(), &iot.CreateProvisioningTemplateVersionInput{TemplateName: &w.template, TemplateBody: text(body), SetAsDefault: true})
	check(t, err)
	_, err = w.admin.iot.DeleteProvisioningTemplateVersion(t.Context(), &iot.DeleteProvisioningTemplateVersionInput{TemplateName: &w.template, VersionId: old.DefaultVersionId})
	check(t, err)
}

var guardVariant = variant{csr: true, format: "json", mqtt5: true}

// asked is what a device hears that asks for a certificate with its own request and registers it. The same request again gets the same
// certificate.
func (w *world) asked(t *testing.T, c claim, key, csr, serial string) (created, rejected) {
	t.Helper()
	d := guardVariant.dial(t, w.site, "device-"+fleet.RandomString(8, fleet.AlphaLowerDigit), c.cert, c.key)
	defer d.close()
	var cert created
	topic := guardVariant.createTopic()
	d.subscribe(t, topic+"/accepted", topic+"/rejected")
	d.publish(t, topic, guardVariant.encode(t, object{"certificateSigningRequest": csr}))
	from, answer := d.receive(t, topic+"/accepted", topic+"/rejected")
	if from != topic+"/accepted" {
		var no rejected
		guardVariant.decode(t, answer, &no)
		return cert, no
	}
	guardVariant.decode(t, answer, &cert)
	cert.PrivateKey = key
	_, no, _ := guardVariant.register(t, d, w.template, cert.Token, object{"SerialNumber": serial})
	return cert, no
}

// status waits until a certificate has a status.
func (w *world) becomes(t *testing.T, certificate string, status types.CertificateStatus) {
	t.Helper()
	deadline := time.Now().Add(answerTimeout)
	for {
		out, err := w.admin.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &certificate})
		check(t, err)
		if out.CertificateDescription.Status == status {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("certificate %s stays %s, want %s", certificate, out.CertificateDescription.Status, status)
		}
	}
}

func TestTheTemplateDecidesWhoGetsAThingThatIsTaken(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	for _, c := range []struct {
		rule             string
		stranger, owners int // statuses of the answers to another key and to the device's own; 0: accepted
	}{
		{"deny", 409, 409}, {"require-same-key", 409, 0}, {"replace", 0, 0}, {"aws", 0, 0}, {"approve", 409, 409},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, s, "guard-"+strings.ReplaceAll(c.rule, "-", ""))
			w.guarded(t, object{"Reprovision": c.rule})
			ida := w.installerSDK(t)
			key, csr := newCSR(t)
			first, no := w.asked(t, w.claim(t, ida), key, csr, "1")
			if no.StatusCode != 0 {
				t.Fatalf("a new thing: %+v", no)
			}
			guardVariant.dial(t, s, w.thing("1"), first.CertificatePEM, first.PrivateKey).close()
			if _, no := w.asked(t, w.claim(t, ida), key, csr, "1"); no.StatusCode != c.owners {
				t.Errorf("with the same key: %+v, want %d", no, c.owners)
			}
			otherKey, otherCSR := newCSR(t)
			again := w.claim(t, ida)
			second, no := w.asked(t, again, otherKey, otherCSR, "1")
			if no.StatusCode != c.stranger || no.StatusCode != 0 && no.TraceID == "" {
				t.Errorf("a stranger: %+v, want %d", no, c.stranger)
			}
			switch c.rule {
			case "replace":
				w.becomes(t, first.CertificateID, types.CertificateStatusActive) // the device may still need it
				guardVariant.dial(t, s, w.thing("1"), second.CertificatePEM, second.PrivateKey).close()
				w.becomes(t, first.CertificateID, types.CertificateStatusInactive)
				w.checkActive(t, "1", 1)
			case "approve":
				w.approve(t, again, second, otherKey, otherCSR, no)
			}
		})
	}
}

// approve plays the operator's part by the command, and the device that asks again by itself.
func (w *world) approve(t *testing.T, c claim, waiting created, key, csr string, no rejected) {
	t.Helper()
	if no.ErrorCode != "ApprovalPending" || no.RetryAfter <= 0 {
		t.Errorf("%+v", no)
	}
	verb := func(args ...string) string {
		t.Helper()
		return w.site.run(t, t.TempDir(), nil, imprint(), append([]string{"approval"}, args...)...)
	}
	var id string
	for line := range strings.Lines(verb("list")) {
		if strings.Contains(line, w.thing("1")) && strings.Contains(line, no.TraceID) {
			id, _, _ = strings.Cut(line, " ")
		}
	}
	if id == "" {
		t.Fatalf("it does not wait:\n%s", verb("list", "--state", "all"))
	}
	if out := w.site.run(t, t.TempDir(), nil, imprint(), "explain", no.TraceID); !strings.Contains(out, "imprint approval approve "+id) {
		t.Errorf("explain says:\n%s", out)
	}
	verb("deny", id)
	if _, no := w.asked(t, c, key, csr, "1"); no.StatusCode != 403 || no.ErrorCode != "AccessDenied" {
		t.Errorf("denied: %+v", no)
	}
	if out := verb("approve", id, "--replace"); !strings.HasPrefix(out, "approved for thing "+w.thing("1")) {
		t.Errorf("%q", out)
	}
	second, no := w.asked(t, c, key, csr, "1")
	if no.StatusCode != 0 || second.CertificateID != waiting.CertificateID {
		t.Fatalf("approved: %+v, certificate %s, want %s", no, second.CertificateID, waiting.CertificateID)
	}
	guardVariant.dial(t, w.site, w.thing("1"), second.CertificatePEM, second.PrivateKey).close()
	deadline := time.Now().Add(answerTimeout)
	for w.active(t, "1") != 1 && time.Now().Before(deadline) {
	}
	w.checkActive(t, "1", 1)
	if list := verb("list", "--state", "used"); !strings.Contains(list, id) {
		t.Errorf("it is not used up:\n%s", list)
	}
}

func TestTheTagsOfAnInstallerBoundTheirClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "tags")
	w.guarded(t, object{"ClaimDevices": "2", "ClaimSeconds": "300"})
	role := w.prefix + "-tagged"
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"AWS": account}, "Action": []string{"sts:AssumeRole", "sts:TagSession"}}}
	_, err := w.admin.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: text(trust),
		Tags: []iamtypes.Tag{{Key: aws.String("imprint:ClaimSeconds"), Value: aws.String("240")}}})
	check(t, err)
	_, err = w.admin.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &role, PolicyName: aws.String("claims"), PolicyDocument: text(object{
		"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:CreateProvisioningClaim", "Resource": w.iotARN("provisioningtemplate/" + w.template)}})})
	check(t, err)
	ctx := t.Context()
	as := func(tags ...string) *sdk {
		t.Helper()
		var tagged []ststypes.Tag
		for pair := range slices.Chunk(tags, 2) {
			tagged = append(tagged, ststypes.Tag{Key: &pair[0], Value: &pair[1]})
		}
		out, err := w.admin.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(w.roleARN(role)), RoleSessionName: aws.String("ida"), Tags: tagged})
		check(t, err)
		c := out.Credentials
		return w.site.sdk(t, credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken))
	}
	key, csr := newCSR(t)
	c := w.claim(t, as("imprint:ClaimSerials", "7 8", "imprint:ClaimDevices", "1", "imprint:ClaimAddresses", "127.0.0.0/8 ::1"))
	if _, no := w.asked(t, c, key, csr, "9"); no.StatusCode != 403 {
		t.Errorf("another serial number: %+v", no)
	}
	if _, no := w.asked(t, c, key, csr, "7"); no.StatusCode != 0 {
		t.Errorf("its serial number: %+v", no)
	}
	if _, no := w.asked(t, c, key, csr, "7"); no.StatusCode != 0 {
		t.Errorf("the same again, as after a lost answer: %+v", no)
	}
	key, csr = newCSR(t)
	if _, no := w.asked(t, c, key, csr, "8"); no.StatusCode != 403 || !strings.Contains(no.ErrorMessage, "1 devices") {
		t.Errorf("a second device: %+v", no)
	}
	limits := w.site.run(t, t.TempDir(), nil, imprint(), "claim", "limits", c.id)
	if !regexp.MustCompile(`devices +1 \(1 counted\)`).MatchString(limits) || !strings.Contains(limits, "7 8") || !strings.Contains(limits, "127.0.0.0/8") {
		t.Errorf("the claim's limits:\n%s", limits)
	}
	elsewhere := w.claim(t, as("imprint:ClaimAddresses", "192.0.2.0/24"))
	if _, no := w.asked(t, elsewhere, key, csr, "8"); no.StatusCode != 403 || !strings.Contains(no.ErrorMessage, "127.0.0.1") {
		t.Errorf("from elsewhere: %+v", no)
	}
	out, err := as().iot.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: &w.template})
	check(t, err)
	if left := time.Until(*out.Expiration); left > 241*time.Second || left < 120*time.Second {
		t.Errorf("the claim lives %v, want the role's 240 seconds", left)
	}
	_, err = as("imprint:ClaimDevice", "1").iot.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: &w.template})
	refused(t, err, "InvalidRequestException", "imprint:ClaimDevice", "imprint:ClaimDevices")
}

func TestABootstrapCertificateIsBoundedAndRolled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "bootstrap")
	dir := t.TempDir()
	made, err := w.admin.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(t, err)
	shared := claim{*made.CertificateId, *made.CertificatePem, *made.KeyPair.PrivateKey}
	policy := w.prefix + "-claim"
	_, err = w.admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &policy, PolicyDocument: aws.String(w.site.run(t, dir, nil, imprint(), "claim", "policy", w.template))})
	check(t, err)
	_, err = w.admin.iot.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: &policy, Target: made.CertificateArn})
	check(t, err)
	next := func(c claim, serial string) rejected {
		t.Helper()
		key, csr := newCSR(t)
		_, no := w.asked(t, c, key, csr, serial)
		return no
	}
	limits := func(args ...string) string {
		t.Helper()
		return w.site.run(t, dir, nil, imprint(), append([]string{"claim", "limits", shared.id}, args...)...)
	}
	if no := next(shared, "1"); no.StatusCode != 0 {
		t.Fatalf("%+v", no)
	}
	if out := limits("--devices", "2", "--addresses", "127.0.0.0/8", "--per-minute", "1000", "--expires", "1d"); !regexp.MustCompile(`devices +2 \(1 counted\)`).MatchString(out) {
		t.Errorf("limits:\n%s", out)
	}
	out := w.site.run(t, dir, nil, imprint(), "claim", "roll", shared.id, "--overlap", "2h", "--out", dir)
	m := regexp.MustCompile(`(?m)^certificate ([0-9a-f]{64})$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("roll printed\n%s", out)
	}
	rolled := claim{id: m[1]}
	for name, into := range map[string]*string{"certificate.pem.crt": &rolled.cert, "private.pem.key": &rolled.key} {
		b, err := os.ReadFile(filepath.Join(dir, m[1][:10]+"-"+name))
		check(t, err)
		*into = string(b)
	}
	if no := next(rolled, "2"); no.StatusCode != 0 {
		t.Errorf("the successor: %+v", no)
	}
	for _, c := range []claim{shared, rolled} { // they share the count, which the operator sees and raises
		if no := next(c, "3"); no.StatusCode != 403 || !strings.Contains(no.ErrorMessage, "2 devices") {
			t.Errorf("beyond the limit: %+v", no)
		}
	}
	if again, err := w.site.try(t, dir, nil, imprint(), "claim", "roll", shared.id); err == nil || !strings.Contains(again, "was rolled into "+rolled.id) {
		t.Errorf("rolled twice: %v, %q", err, again)
	}
	limits("--devices", "3")
	if no := next(shared, "3"); no.StatusCode != 0 {
		t.Errorf("after the limit was raised: %+v", no)
	}
	limits("--devices", "unlimited", "--addresses", "192.0.2.7")
	if no := next(rolled, "4"); no.StatusCode != 403 {
		t.Errorf("from elsewhere: %+v", no)
	}
	limits("--addresses", "any", "--per-minute", "2")
	if no := next(rolled, "4"); no.StatusCode != 0 {
		t.Errorf("within the rate: %+v", no)
	}
	if no := next(rolled, "5"); no.StatusCode != 429 || no.ErrorCode != "Throttled" || no.RetryAfter < 1 || no.RetryAfter > 60 {
		t.Errorf("beyond the rate: %+v", no)
	}
	if out := limits(); !strings.Contains(out, "rolled into") || !strings.Contains(out, "deactivated at") {
		t.Errorf("limits:\n%s", out)
	}
	// Who contains the one contains the other, and all that came of both.
	report := w.site.run(t, dir, nil, imprint(), "claim", "report", shared.id)
	for _, want := range []string{"rolled into *" + rolled.id, "certificates +4", w.thing("1"), w.thing("2")} {
		if !regexp.MustCompile(want).MatchString(report) {
			t.Errorf("the report has no %q:\n%s", want, report)
		}
	}
	said := w.site.run(t, dir, nil, imprint(), "claim", "contain", shared.id, "--revoke-since", "beginning")
	if !strings.Contains(said, "4 certificates") {
		t.Errorf("it says %q", said)
	}
	w.becomes(t, rolled.id, types.CertificateStatusInactive)
}

func TestTemplatesThatContradictThemselvesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "contradict")
	for want, change := range map[string]func(body, settings object){
		"with Status INACTIVE the new one never does": func(body, s object) {
			s["Reprovision"] = "replace"
			body["Resources"].(object)["certificate"].(object)["Properties"].(object)["Status"] = "INACTIVE"
		},
		"no resource of type AWS::IoT::Certificate": func(body, s object) {
			s["Reprovision"] = "require-same-key"
			delete(body["Resources"].(object), "certificate")
		},
		"no resource of type AWS::IoT::Thing": func(body, s object) {
			s["Reprovision"] = "approve"
			delete(body["Resources"].(object), "thing")
		},
		"declares no parameter":       func(_, s object) { s["SerialParameter"] = "Serial" },
		"is no number from 30 to 300": func(_, s object) { s["ClaimSeconds"] = "301" },
		"neither an address":          func(_, s object) { s["ClaimAddresses"] = "factory" },
	} {
		body, settings := w.templateBody(), object{}
		body["Mappings"].(object)["Imprint"] = object{"Settings": settings}
		change(body, settings)
		_, err := w.admin.iot.CreateProvisioningTemplate(t.Context(), &iot.CreateProvisioningTemplateInput{TemplateName: aws.String(w.prefix + "-bad"),
			ProvisioningRoleArn: aws.String(w.roleARN(w.provisioningRole)), TemplateBody: text(body)})
		refused(t, err, "InvalidRequestException", "Mappings.Imprint", want)
	}
}

// A device keeps its old identity until the new one has connected, wherever the server loses power in between.
func TestReplacingSurvivesThatTheServerIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := start(dir)
	check(t, err)
	defer func() { _ = s.stop() }()
	kill := func() {
		t.Helper()
		check(t, s.cmd.Process.Kill())
		<-s.exited
		next, err := start(dir)
		check(t, err)
		s.cmd, s.exited = next.cmd, next.exited
	}
	w := newWorld(t, s, "replace")
	w.guarded(t, object{"Reprovision": "replace", "ClaimDevices": "1"})
	connects := func(c created) {
		t.Helper()
		guardVariant.dial(t, s, w.thing("1"), c.CertificatePEM, c.PrivateKey).close()
	}
	register := func() created {
		t.Helper()
		key, csr := newCSR(t)
		c := w.claim(t, w.admin)
		cert, no := w.asked(t, c, key, csr, "1")
		if no.StatusCode != 0 {
			t.Fatalf("%+v", no)
		}
		kill() // the answer may be lost
		again, no := w.asked(t, c, key, csr, "1")
		if no.StatusCode != 0 || again.CertificateID != cert.CertificateID {
			t.Fatalf("asked again: %+v", no)
		}
		return again
	}
	first := register()
	connects(first)
	second := register()
	connects(first) // the device has not stored the new one
	w.becomes(t, first.CertificateID, types.CertificateStatusActive)
	connects(second)
	kill() // before or after the server has noted the connection
	connects(second)
	w.becomes(t, first.CertificateID, types.CertificateStatusInactive)
	w.checkActive(t, "1", 1)
	kill()
	connects(second)
	w.checkActive(t, "1", 1)
}
