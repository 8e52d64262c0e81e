package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A certificate that has something of everything that policies may ask for (iot-core spec 5.4).
const speakingCertificate = `
cat > ext.cnf <<'END'
[device]
subjectAltName = DNS:lamp.example.com, DNS:second.example.com, email:ada@example.com, URI:urn:lamp:1, IP:192.0.2.7, dirName:dir
issuerAltName = DNS:ca.example.com
[dir]
C = US
CN = Bulb
END
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -sha256 -days 30 -subj '/C=FR/O=Makers/OU=Lamps/CN=Lamp CA' -out ca.pem
openssl ecparam -name prime256v1 -genkey -noout -out lamp.key
openssl req -new -key lamp.key -subj '/C=DE/C=FR/ST=Hessen/O=Bulbs, Inc/OU=one/OU=two/OU=thr*e/CN=lamp-1/serialNumber=4711/dnQualifier=Q/title=Dr/SN=Lovelace/GN=Ada/initials=AL/pseudonym=ada/generationQualifier=II' -out lamp.csr
openssl x509 -req -in lamp.csr -CA ca.pem -CAkey ca.key -set_serial 0x1f2e -days 30 -sha256 -extfile ext.cnf -extensions device -out lamp.pem`

func TestPoliciesMayAskWhatACertificateSays(t *testing.T) {
	t.Parallel()
	s, dir := sharedServer(t), t.TempDir()
	admin, name := s.adminSDK(t).iot, "speaking"
	s.run(t, dir, nil, "bash", "-c", "set -e"+speakingCertificate)
	pem, err := os.ReadFile(filepath.Join(dir, "lamp.pem"))
	check(t, err)
	made, err := admin.RegisterCertificateWithoutCA(t.Context(), &iot.RegisterCertificateWithoutCAInput{CertificatePem: new(string(pem)), Status: types.CertificateStatusActive})
	check(t, err)
	// Variables that have a value, by the topic that one in this place allows.
	allowed := map[string]string{
		"Subject.Country": "DE", "Subject.Country.1": "FR", "Subject.State": "Hessen", "Subject.OrganizationalUnit": "one", "Subject.OrganizationalUnit.1": "two",
		"Subject.CommonName": "lamp-1", "Subject.SerialNumber": "4711", "Subject.DistinguishedNameQualifier": "Q", "Subject.Title": "Dr", "Subject.Surname": "Lovelace",
		"Subject.GivenName": "Ada", "Subject.Initials": "AL", "Subject.Pseudonym": "ada", "Subject.GenerationQualifier": "II",
		"Subject.Organization":              `Bulbs\, Inc`, // special characters are escaped
		"Subject.AlternativeName.DNSName":   "lamp.example.com",
		"Subject.AlternativeName.DNSName.1": "second.example.com", "Subject.AlternativeName.RFC822Name": "ada@example.com",
		"Subject.AlternativeName.UniformResourceIdentifier": "urn:lamp:1", "Subject.AlternativeName.IPAddress": "192.0.2.7",
		"Subject.AlternativeName.DirectoryName": `cn\=Bulb\,c\=US`,
		"Issuer.Country":                        "FR", "Issuer.Organization": "Makers", "Issuer.OrganizationalUnit": "Lamps", "Issuer.CommonName": "Lamp CA",
		"Issuer.AlternativeName.DNSName": "ca.example.com", "SerialNumber": "7982",
	}
	var topics, statements []string
	for variable, value := range allowed {
		topics = append(topics, variable+"/"+value)
		statements = append(statements, "arn:aws:iot:*:*:topic/"+variable+"/${iot:Certificate."+variable+"}")
	}
	denied := []string{
		"Subject.CommonName/lamp-2",
		"Subject.OrganizationalUnit.2/thr*e", "Subject.OrganizationalUnit.2/thrice", // it may not stand for others
		"Subject.Title.1/${iot:Certificate.Subject.Title.1}", // there is no second one
	}
	statements = append(statements, "arn:aws:iot:*:*:topic/Subject.OrganizationalUnit.2/${iot:Certificate.Subject.OrganizationalUnit.2}",
		"arn:aws:iot:*:*:topic/Subject.Title.1/${iot:Certificate.Subject.Title.1}")
	documents := []any{
		object{"Version": "2012-10-17", "Statement": []object{{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
			// … and of conditions.
			{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/lists", "Condition": object{
				"ForAnyValue:StringEquals": object{"iot:Certificate.Subject.OrganizationalUnit.List": []string{"two"}, "iot:Certificate.AvailableKeys": []string{"iot:Certificate.Subject.Title"}},
				"StringEquals":             object{"iot:Certificate.Issuer.CommonName": "Lamp CA"}}},
			{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/other-ca", "Condition": object{"StringEquals": object{"iot:Certificate.Issuer.CommonName": "Other CA"}}}}},
		object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:Publish", "Resource": statements[:len(statements)/2]}},
		object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:Publish", "Resource": statements[len(statements)/2:]}},
	}
	for i, document := range documents {
		policy := name + "-" + string(rune('a'+i))
		_, err := admin.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &policy, PolicyDocument: text(document)})
		check(t, err)
		_, err = admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: &policy, Target: made.CertificateArn})
		check(t, err)
	}
	publish := func(topic string) (string, error) {
		t.Helper()
		m := mosquitto{site: s, dir: dir, clientID: name, version: "mqttv311", cert: "lamp.pem", key: "lamp.key"}
		return s.try(t, dir, nil, "mosquitto_pub", m.args("-t", topic, "-m", "x")...)
	}
	for _, topic := range append(topics, "lists") {
		if out, err := publish(topic); err != nil {
			t.Errorf("%s is not allowed: %v %s", topic, err, out)
		}
	}
	for _, topic := range append(denied, "other-ca") {
		if out, err := publish(topic); err == nil && !strings.Contains(out, "rror") {
			t.Errorf("%s is allowed", topic)
		}
	}
}
