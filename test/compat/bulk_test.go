package compat

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// bulkTemplate is AWS's example of a template for bulk registration, with a policy by name.
const bulkTemplate = `{"Parameters": {"ThingName": {"Type": "String"}, "SerialNumber": {"Type": "String"}, "CSR": {"Type": "String"}},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}, "AttributePayload": {"serialNumber": {"Ref": "SerialNumber"}}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "bulk"}}}}`

// bulkWorld makes the role and the policy that bulkTemplate needs, and returns the role's ARN.
func bulkWorld(t *testing.T, c *sdk, role, input string) string {
	t.Helper()
	ctx := t.Context()
	_, err := c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}})})
	check(t, err)
	_, err = c.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &role, PolicyArn: aws.String("arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration")})
	check(t, err)
	_, err = c.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &role, PolicyName: aws.String("input"), PolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::" + input + "/*"}})})
	check(t, err)
	_, err = c.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("bulk"), PolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}})})
	check(t, err)
	return "arn:aws:iam::" + account + ":role/" + role
}

// bulkCSR is a request for a certificate; many lines may bring the same.
func bulkCSR(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lamp"}}, key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// bulkInput makes lines, of which each thousandth from the 500th on is bad, and returns which those are.
func bulkInput(t *testing.T, lines int) (input []byte, bad map[int]bool) {
	t.Helper()
	csr, bad := bulkCSR(t), map[int]bool{}
	var b bytes.Buffer
	for i := 1; i <= lines; i++ {
		line := object{"ThingName": fmt.Sprintf("lamp-%06d", i), "SerialNumber": fmt.Sprint(i), "CSR": csr}
		if i%1000 == 500 {
			bad[i] = true
			switch i / 1000 % 4 {
			case 0:
				line["ThingName"] = "a lamp"
			case 1:
				line["CSR"] = "none"
			case 2:
				line["SerialNumber"] = i
			case 3:
				b.WriteString("{not JSON}\n")
				continue
			}
		}
		text, err := json.Marshal(line)
		check(t, err)
		b.Write(append(text, '\n'))
	}
	return b.Bytes(), bad
}

// bulkState describes a task until done says that it has seen enough.
func bulkState(t *testing.T, c *sdk, id string, done func(*iot.DescribeThingRegistrationTaskOutput) bool) *iot.DescribeThingRegistrationTaskOutput {
	t.Helper()
	return bulkStateWithin(t, c, id, 20*time.Minute, done)
}

func bulkStateWithin(t *testing.T, c *sdk, id string, limit time.Duration, done func(*iot.DescribeThingRegistrationTaskOutput) bool) *iot.DescribeThingRegistrationTaskOutput {
	t.Helper()
	tick, late := time.NewTicker(50*time.Millisecond), time.After(limit)
	defer tick.Stop()
	for {
		out, err := c.iot.DescribeThingRegistrationTask(t.Context(), &iot.DescribeThingRegistrationTaskInput{TaskId: &id})
		check(t, err)
		if done(out) {
			return out
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the task %s stands at %s, %d %%, %d good, %d bad", id, out.Status, out.PercentageProgress, out.SuccessCount, out.FailureCount)
		}
	}
}

func ended(o *iot.DescribeThingRegistrationTaskOutput) bool {
	return o.Status != iottypes.StatusInProgress && o.Status != iottypes.StatusCancelling
}

// A bulkLine is a line of a report.
type bulkLine struct {
	LineNumber int
	Response   struct {
		CertificatePem string
		ResourceArns   map[string]string
		Error          struct{ Code, Message string }
	}
}

// bulkReport downloads a report; nil if there is none.
func (s *site) bulkReport(t *testing.T, c *sdk, id string, kind iottypes.ReportType) (lines []bulkLine) {
	t.Helper()
	out, err := c.iot.ListThingRegistrationTaskReports(t.Context(), &iot.ListThingRegistrationTaskReportsInput{TaskId: &id, ReportType: kind})
	check(t, err)
	for _, link := range out.ResourceLinks {
		status, body := s.download(t, link)
		if status != http.StatusOK {
			t.Fatalf("the report: %d %.300s", status, body)
		}
		for text := range strings.Lines(body) {
			lines = append(lines, must[bulkLine](t, text))
		}
	}
	return lines
}

// Ten thousand lines, of which ten are bad, and the server is killed twice on the way: each line is registered once and reported once.
func TestBulkRegistrationGoesOnWhereItWasCut(t *testing.T) {
	t.Parallel()
	registerThroughKills(t, 10_000, 20*time.Minute)
}

// TestSoakBulkRegistration is that with a hundred thousand.
func TestSoakBulkRegistration(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	registerThroughKills(t, 100_000, 30*time.Minute)
}

func registerThroughKills(t *testing.T, lines int, limit time.Duration) {
	t.Helper()
	s := ownServer(t)
	c := s.adminSDK(t)
	role := bulkWorld(t, c, "bulk", "fleet")
	input, bad := bulkInput(t, lines)
	objects := s.objects(t)
	_, err := objects.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("fleet")})
	check(t, err)
	_, err = objects.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String("in/lamps.json"), Body: bytes.NewReader(input)})
	check(t, err)
	request := &iot.StartThingRegistrationTaskInput{TemplateBody: aws.String(bulkTemplate), InputFileBucket: aws.String("fleet"), InputFileKey: aws.String("in/lamps.json"), RoleArn: &role}
	task, err := c.iot.StartThingRegistrationTask(t.Context(), request)
	check(t, err)
	id := *task.TaskId
	_, err = c.iot.StartThingRegistrationTask(t.Context(), request)
	wantAPICode(t, err, "InvalidRequestException") // one at a time
	began := time.Now()
	for _, at := range []int{lines / 4, lines / 2} {
		bulkStateWithin(t, c, id, limit, func(o *iot.DescribeThingRegistrationTaskOutput) bool { return int(o.SuccessCount) > at || ended(o) })
		check(t, s.cmd.Process.Kill())
		<-s.exited
		again, err := start(filepath.Dir(s.data))
		check(t, err)
		s.cmd, s.env, s.exited = again.cmd, again.env, again.exited
		c = s.adminSDK(t)
	}
	o := bulkStateWithin(t, c, id, limit, ended)
	t.Logf("%d lines in %v, with two restarts", lines, time.Since(began))
	if o.Status != iottypes.StatusCompleted || int(o.SuccessCount) != lines-len(bad) || int(o.FailureCount) != len(bad) || o.PercentageProgress != 100 {
		t.Fatalf("the task has ended as %s %s with %d good, %d bad", o.Status, aws.ToString(o.Message), o.SuccessCount, o.FailureCount)
	}
	good := s.bulkReport(t, c, id, iottypes.ReportTypeResults)
	if len(good) != lines-len(bad) {
		t.Errorf("%d results", len(good))
	}
	last := 0
	for _, l := range good {
		if l.LineNumber <= last || bad[l.LineNumber] || l.Response.ResourceArns["thing"] != fmt.Sprintf("arn:aws:iot:%s:%s:thing/lamp-%06d", s.get("AWS_REGION"), account, l.LineNumber) ||
			!strings.HasPrefix(l.Response.CertificatePem, "-----BEGIN CERTIFICATE-----") || l.Response.ResourceArns["certificate"] == "" {
			t.Fatalf("after line %d: %+v", last, l)
		}
		last = l.LineNumber
	}
	for _, l := range s.bulkReport(t, c, id, iottypes.ReportTypeErrors) {
		if !bad[l.LineNumber] || l.Response.Error.Code == "" || l.Response.Error.Message == "" {
			t.Errorf("error %+v", l)
		}
		delete(bad, l.LineNumber)
	}
	if len(bad) != 0 {
		t.Errorf("not reported: %v", bad)
	}
	things, certificates := countRegistered(t, c)
	if things != len(good) || certificates != len(good) {
		t.Errorf("%d things, %d certificates for %d results", things, certificates, len(good))
	}
}

func countRegistered(t *testing.T, c *sdk) (things, certificates int) {
	t.Helper()
	for p := iot.NewListThingsPaginator(c.iot, &iot.ListThingsInput{MaxResults: aws.Int32(250)}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		check(t, err)
		things += len(page.Things)
	}
	for p := iot.NewListCertificatesPaginator(c.iot, &iot.ListCertificatesInput{PageSize: aws.Int32(250)}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		check(t, err)
		certificates += len(page.Certificates)
	}
	return things, certificates
}

// What is wrong with the task itself it says when it is described.
func TestBulkRegistrationSaysWhyItFails(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	c := s.adminSDK(t)
	role := bulkWorld(t, c, "bulk", "fleet")
	objects := s.objects(t)
	for _, name := range []string{"fleet", "secret"} {
		_, err := objects.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name})
		check(t, err)
		_, err = objects.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: aws.String("k"), Body: strings.NewReader(`{"ThingName": "a"}`)})
		check(t, err)
	}
	run := func(body, bucket, key string) *iot.DescribeThingRegistrationTaskOutput {
		out, err := c.iot.StartThingRegistrationTask(context.Background(), &iot.StartThingRegistrationTaskInput{TemplateBody: &body, InputFileBucket: &bucket, InputFileKey: &key, RoleArn: &role})
		check(t, err)
		return bulkState(t, c, *out.TaskId, ended)
	}
	for _, row := range []struct{ body, bucket, key, want string }{
		{bulkTemplate, "fleet", "none", "does not exist"},
		{bulkTemplate, "secret", "k", "s3:GetObject"},
		{bulkTemplate, "nobucket", "k", "s3:GetObject"},
		{`{"Resources": {"x": {"Type": "AWS::S3::Bucket"}}}`, "fleet", "k", "The template is not valid"},
	} {
		if o := run(row.body, row.bucket, row.key); o.Status != iottypes.StatusFailed || !strings.Contains(aws.ToString(o.Message), row.want) {
			t.Errorf("%s/%s: %s %s", row.bucket, row.key, o.Status, aws.ToString(o.Message))
		}
	}
	_, err := c.iot.StartThingRegistrationTask(t.Context(), &iot.StartThingRegistrationTaskInput{TemplateBody: aws.String(bulkTemplate), InputFileBucket: aws.String("fleet"), InputFileKey: aws.String("k"),
		RoleArn: aws.String("arn:aws:iam::" + account + ":role/none")})
	wantAPICode(t, err, "InvalidRequestException")
	_, err = c.iot.DescribeThingRegistrationTask(t.Context(), &iot.DescribeThingRegistrationTaskInput{TaskId: aws.String("none")})
	wantAPICode(t, err, "ResourceNotFoundException")
	_, err = c.iot.ListThingRegistrationTaskReports(t.Context(), &iot.ListThingRegistrationTaskReportsInput{TaskId: aws.String("none"), ReportType: iottypes.ReportTypeErrors})
	wantAPICode(t, err, "InvalidRequestException")
	list, err := c.iot.ListThingRegistrationTasks(t.Context(), &iot.ListThingRegistrationTasksInput{Status: iottypes.StatusFailed})
	check(t, err)
	if len(list.TaskIds) != 4 {
		t.Errorf("tasks %v", list.TaskIds)
	}
}

// The certificates of an existing fleet are exchanged by bulk, and a task can be stopped.
func TestBulkRotatesCertificatesAndStops(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	c := s.adminSDK(t)
	role := bulkWorld(t, c, "bulk", "fleet")
	objects := s.objects(t)
	_, err := objects.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("fleet")})
	check(t, err)
	run := func(lines int) string {
		input, _ := bulkInput(t, lines)
		_, err := objects.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String("k"), Body: bytes.NewReader(input)})
		check(t, err)
		out, err := c.iot.StartThingRegistrationTask(t.Context(), &iot.StartThingRegistrationTaskInput{TemplateBody: aws.String(bulkTemplate), InputFileBucket: aws.String("fleet"),
			InputFileKey: aws.String("k"), RoleArn: &role})
		check(t, err)
		return *out.TaskId
	}
	for range 2 { // the same things, with other keys
		if o := bulkState(t, c, run(20), ended); o.Status != iottypes.StatusCompleted || o.SuccessCount != 20 {
			t.Fatalf("%s %s: %d good, %d bad", o.Status, aws.ToString(o.Message), o.SuccessCount, o.FailureCount)
		}
	}
	if things, certificates := countRegistered(t, c); things != 20 || certificates != 40 {
		t.Errorf("%d things, %d certificates", things, certificates)
	}
	principals, err := c.iot.ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: aws.String("lamp-000007")})
	check(t, err)
	if len(principals.Principals) != 2 { // the old one stays until somebody detaches it, as in AWS
		t.Errorf("principals %v", principals.Principals)
	}
	id := run(5000)
	_, err = c.iot.StopThingRegistrationTask(t.Context(), &iot.StopThingRegistrationTaskInput{TaskId: &id})
	check(t, err)
	o := bulkState(t, c, id, ended)
	good := s.bulkReport(t, c, id, iottypes.ReportTypeResults)
	if o.Status == iottypes.StatusCancelled && len(good) != int(o.SuccessCount) || o.Status == iottypes.StatusFailed {
		t.Errorf("stopped: %s, %d good, %d reported", o.Status, o.SuccessCount, len(good))
	}
}
