package power

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/server"
)

// Newcomers are devices with certificates of the customer's CA: their first connection provisions them (docs/own-ca.md).
type newcomers struct {
	people
	key  *ecdsa.PrivateKey
	ca   *x509.Certificate
	list []identity

	done, finished int // devices over all cuts: whose first connection had ended, and that went on behind it
}

// sign makes a certificate for a new key, or for the CA's own if it has none yet.
func (n *newcomers) sign(name string) (id identity, cert *x509.Certificate, err error) {
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	key, by := n.key, n.ca
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, by = true, true, c
	} else if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return id, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), n.key)
	if err != nil {
		return id, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return id, nil, err
	}
	sum := sha256.Sum256(der)
	id = identity{ID: hex.EncodeToString(sum[:]), Cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))}
	cert, err = x509.ParseCertificate(der)
	return id, cert, err
}

// provisioning is a template of the CA's own.
func provisioning() (object, error) {
	body, err := json.Marshal(object{
		"Parameters": object{"AWS::IoT::Certificate::CommonName": object{"Type": "String"}, "AWS::IoT::Certificate::Id": object{"Type": "String"}},
		"Resources": object{
			"thing":       object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "AWS::IoT::Certificate::CommonName"}}},
			"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateId": object{"Ref": "AWS::IoT::Certificate::Id"}}},
			"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": policy}}}})
	return object{"registrationConfig": object{"templateBody": string(body), "roleArn": "arn:aws:iam::000000000000:role/provisioning"}}, err
}

// register registers the CA. in has what else is sent.
func (n *newcomers) register(ctx context.Context, c *client.Client, in object) (err error) {
	if n.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	var ca identity
	if ca, n.ca, err = n.sign("Lamp CA"); err != nil {
		return err
	}
	var code struct{ RegistrationCode string }
	if err := c.REST(ctx, "iot", http.MethodGet, "/registrationcode", nil, &code); err != nil {
		return err
	}
	proof, _, err := n.sign(code.RegistrationCode)
	if err != nil {
		return err
	}
	in["caCertificate"], in["verificationCertificate"] = ca.Cert, proof.Cert
	return c.REST(ctx, "iot", http.MethodPost, "/cacertificate?setAsActive=true&allowAutoRegistration=true", in, nil)
}

func (n *newcomers) live(ctx context.Context, mark func(string) error) error {
	c, err := n.admin(n.env)
	if err != nil {
		return err
	}
	config, err := provisioning()
	if err := errors.Join(err, n.prepare(ctx, c), n.register(ctx, c, config), mark("registered")); err != nil {
		return err
	}
	for i := range 6 {
		if _, err := n.arrive(strconv.Itoa(i), mark); err != nil {
			return err
		}
	}
	return nil
}

// arrive makes the next device, which connects for the first time; that is not answered.
func (n *newcomers) arrive(name string, mark func(string) error) (identity, error) {
	d, _, err := n.sign(thingName(name))
	if err != nil {
		return d, err
	}
	n.list = append(n.list, d)
	if _, err := connect(n.env, d, thingName(name)); err == nil {
		return d, errors.New("the first connection was answered")
	}
	return d, mark("left " + name)
}

// check looks for what was promised: whose first connection ended exists completely, nobody exists in part, and all can connect
// in the end.
func (n *newcomers) check(ctx context.Context, s *site, rec *recording, cut int) error {
	c, err := n.admin(s.env)
	if err != nil {
		return err
	}
	had, err := readRegistry(ctx, c)
	if err == nil {
		err = had.inService()
	}
	if err != nil {
		return err
	}
	for i, d := range n.list {
		name := thingName(strconv.Itoa(i))
		ended := rec.seen("left "+strconv.Itoa(i), cut)
		if ended && (had.status[d.ID] != "ACTIVE" || !slices.Equal(had.things[name], []string{d.ID})) {
			return fmt.Errorf("the first connection of %s has ended, and its certificate is %q, with things %v", name, had.status[d.ID], had.things)
		}
		if err := n.goOn(s.env, d, name, ended); err != nil {
			return fmt.Errorf("%s does not come in: %w", name, err)
		}
	}
	has, err := readRegistry(ctx, c)
	if err == nil && len(has.things) != len(n.list) {
		err = fmt.Errorf("%d devices end with the things %v", len(n.list), has.things)
	}
	return errors.Join(err, has.inService())
}

// goOn connects: at once if the first connection has ended, else at the second attempt at the latest.
func (n *newcomers) goOn(env server.Env, d identity, name string, ended bool) error {
	conn, err := connect(env, d, name)
	if err != nil && !ended {
		conn, err = connect(env, d, name)
	}
	if err != nil {
		return err
	}
	conn.Disconnect(0)
	if ended {
		n.done++
	} else {
		n.finished++
	}
	return nil
}

func TestAFirstConnectionSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := &newcomers{people: *newPeople()}
	rec, err := n.watch(bin, dir, n.live)
	if err != nil {
		t.Fatal(err)
	}
	rnd := newRand(t)
	ways := losses(rnd)
	for i, cut := range append(rec.pick(rnd, cuts/2, "registered"), rec.marks["left 2"]+1, rec.last()) {
		if err := rec.survive(cut, ways[i/2%len(ways)], lie{}, filepath.Join(dir, "left"), func(s *site) error { return n.check(context.Background(), s, rec, cut) }); err != nil {
			t.Error(err)
		}
	}
	t.Logf("over all cuts the first connection of %d devices had ended, and %d went on behind a cut", n.done, n.finished)
	if n.done == 0 || n.finished == 0 {
		t.Error("the cuts show nothing")
	}
	deaf := lie{deaf: func(name string) bool { return name == "data/imprint.db-wal" }}
	if rec.missed(func(cut int) error {
		return rec.survive(cut, ways[0], deaf, filepath.Join(dir, "left"), func(s *site) error { return n.check(context.Background(), s, rec, cut) })
	}) == nil {
		t.Error("nobody missed the syncs of the write-ahead log")
	}
}
