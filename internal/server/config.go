// Package server puts the parts together: it opens a data folder, wires store, rules and edges explicitly in one place, and
// listens. Begin with Config, then Start in server.go; tests and the command start the same value.
package server

import (
	"cmp"
	"context"
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/gateway"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/store"
)

// Config is what an operator may choose. The zero Config works: loopback, default ports, data in ./imprint-data.
//
// A setting is declared here once, and the command does the rest: the field's name or its tag name gives the flag (--https-port),
// the environment variable (IMPRINT_HTTPS_PORT) and the key in the configuration file (https-port). Tags: help is for people;
// default is what holds when nothing is said, here and for whoever starts a server from Go, where the zero value means the
// default; first instead of default marks what is fixed at the first start; secret marks what must not be shown. A file or
// folder has type:"path". docs/operating.md lists every setting; a test compares the two.
type Config struct {
	Data    string `help:"Folder of everything that is kept." default:"imprint-data" type:"path" placeholder:"DIR"`
	EnvFile string `help:"A second copy of the environment file imprint.env." type:"path" placeholder:"FILE"`

	Host      string   `help:"Name or address that devices and clients use; anything but loopback listens on every interface." first:"localhost" placeholder:"NAME"`
	HTTPSPort Port     `name:"https-port" help:"Port of API, WebSocket and MQTT by ALPN; 0: any free one." first:"8443" placeholder:"N"`
	MQTTPort  Port     `name:"mqtt-port" help:"Port of MQTT over TLS; 0: any free one." first:"8883" placeholder:"N"`
	CertPort  Port     `name:"cert-https-port" help:"Port of HTTPS for devices with their certificate, which publish there; AWS has it on 8443. None unless given: the HTTPS port serves devices that ask for x-amzn-http-ca by ALPN." placeholder:"N"`
	Region    string   `help:"AWS region to be." first:"us-east-1" placeholder:"REGION"`
	Regions   []string `help:"Further AWS regions to be: each account has fleets, pools, functions and buckets of its own there, and the users, roles and keys that it has." placeholder:"REGION"`
	Account   string   `help:"Id of the first account, 12 digits." first:"000000000000" placeholder:"ID"`

	EndpointDomain string `help:"Domain below which each account has endpoint names of its own, as on AWS: PREFIX-ats.iot.REGION.DOMAIN and so on. DNS must lead *.iot.REGION.DOMAIN, *.credentials.iot.REGION.DOMAIN and *.jobs.iot.REGION.DOMAIN here. Without it all accounts share the host's name." placeholder:"DOMAIN"`

	DatabaseURL
	MasterKey
	KeyHelper string `help:"Socket of a key helper (imprint-pkcs11) in which the keys of new roots and issuers are made and stay (default: sealed files in the data folder)." type:"path" placeholder:"SOCKET"`

	Delivery
	AWSNames         bool     `name:"aws-names" help:"Also answer for host names of AWS, to which the site's DNS must lead here, for old apps that have them built in. Browsers that trust the root for it (imprint ca --aws-names) take this server for AWS." placeholder:""`
	CORSOrigins      []string `name:"cors-origins" help:"Origins whose pages may call the API from a browser, or *." placeholder:"URL"`
	Limits           string   `help:"Rates and numbers that MQTT clients may not exceed: aws (those of AWS) or none." enum:"none,aws" default:"none" placeholder:"PROFILE"`
	TemplateLint     string   `help:"Which provisioning templates are refused: aws (those that AWS refuses) or errors (also those in which lint finds an error)." enum:"aws,errors" default:"aws" placeholder:"LEVEL"`
	DeniedConnect    string   `help:"What an MQTT 3.1.1 client hears of a CONNECT that its policy denies: CONNACK with return code 5 or 7, or none." enum:"5,7,none" default:"5" placeholder:"CODE"`
	HoldFirstConnect bool     `help:"Let a device that the template of its CA provisions at its first connection go on with that; without it the connection ends and the device connects again, as on AWS." placeholder:""`
	DeniedSubscribe  string   `help:"What becomes of an MQTT 3.1.1 connection after the SUBACK for a filter that its policy denies: close or keep." enum:"close,keep" default:"close" placeholder:"WHAT"`

	ThingTypeWait *time.Duration `help:"How long a thing type must be deprecated before it may be deleted, 0 for not at all (default: 5m, as on AWS)." placeholder:"DURATION"`

	TrustedAddresses []string `help:"Addresses and networks that no budget by address holds for." placeholder:"NET"`
	TrustedProxies   []string `help:"Reverse proxies before the HTTPS port, whose X-Forwarded-For is believed." placeholder:"NET"`
	EgressAllow      []string `help:"Destinations that may be called although they are not public, or by plain HTTP: networks, addresses, hosts, with or without a port." placeholder:"DEST"`
	EgressCA         string   `name:"egress-ca" help:"File with further roots (PEM) that calls to others trust beside those of the system." type:"path" placeholder:"FILE"`
	IdentityHosts    []string `help:"Where the public identity providers that identity pools and STS take tokens of are reached in place of their own hosts, for a stand-in." placeholder:"NAME=URL"`
	IdentityRoles    []string `help:"Issuers, without https://, whose tokens may name a role of identity pools themselves (cognito:roles), as those of this server's own user pools do." placeholder:"ISSUER"`
	EgressProxy      string   `help:"HTTP proxy for calls to others; the environment's does not count." placeholder:"URL"`
	Budgets
	Functions
	Buckets
	TraceKeep     Period `help:"How long traces are kept." default:"30d" placeholder:"TIME"`
	TraceSize     Size   `help:"How much traces may take on the disk; beyond that the oldest go." default:"1GiB" placeholder:"SIZE"`
	TraceConnects Period `help:"For how long after a successful connection of a device no further one is told." default:"1h" placeholder:"TIME"`
	TraceRefusals int    `help:"Refusals a minute that are told of each address; beyond that they are counted only." default:"30" placeholder:"N"`

	LogKeep Period `help:"How long entries of logs are kept, at most." default:"30d" placeholder:"TIME"`
	LogSize Size   `help:"How much logs may take on the disk; beyond that the oldest entries go." default:"1GiB" placeholder:"SIZE"`

	MetricsListen    string `help:"Port or address where Prometheus reads metrics by plain HTTP; a port alone is opened on loopback. Off unless it is set." placeholder:"ADDR"`
	MetricsTokenFile string `help:"File with the bearer token that metrics-listen asks for; needed anywhere but on loopback." type:"path" placeholder:"FILE"`

	OTLPEndpoint string `name:"otlp-endpoint" help:"OpenTelemetry collector that spans are sent to, for example http://127.0.0.1:4318; needs a build with the tag otel." placeholder:"URL"`

	KeyPool    int           `kong:"-"` // RSA keys kept ready; default 32, -1: none
	KeyWait    time.Duration `kong:"-"` // how long one is waited for; default that of pki.PoolConfig
	KeyProcess bool          `kong:"-"` // keys are made in other processes of this program, whose main calls keymaker.Main
	Version    string        `kong:"-"` // of this build, for the metrics

	Clock fleet.Clock  `kong:"-"`
	Log   *slog.Logger `kong:"-"`
}

// denied is what 3.1.1 clients hear of a denial.
func (c *Config) denied() mqtt.Denied {
	return mqtt.Denied{Connack: map[string]int{"5": 5, "7": 7, "none": -1}[c.DeniedConnect], Keep: c.DeniedSubscribe == "keep"}
}

// limits are those of the profile.
func (c *Config) limits() mqtt.Limits {
	if c.Limits == "aws" {
		return mqtt.AWSLimits()
	}
	return mqtt.Limits{}
}

// MasterKey says where the master key comes from (pki.LoadMasterKey); by default a file in the data folder.
type MasterKey struct {
	MasterKeyFile string `help:"File with the master key that seals every secret." type:"path" placeholder:"FILE"`
	MasterKeyCmd  string `name:"master-key-command" help:"Command that prints the master key." placeholder:"CMD"`
}

// Delivery says how messages (codes, invitations) reach people: e-mail by SMTP, else by the webhook; SMS by the webhook; without
// both, and for whoever has no address, into the outbox.
type Delivery struct {
	OutboxDir             string `name:"outbox" help:"Folder for messages to users, one file each (default: outbox in the data folder)." type:"path" placeholder:"DIR"`
	SMTP                  string `name:"smtp" help:"Mail server for messages to users, with or without a port (587, or 465 with smtp-tls implicit)." placeholder:"HOST"`
	SMTPTLS               string `name:"smtp-tls" help:"How the connection to the mail server is encrypted: starttls, implicit or none." enum:"starttls,implicit,none" default:"starttls" placeholder:"HOW"`
	SMTPUser              string `name:"smtp-user" help:"User at the mail server; needs smtp-password-file." placeholder:"NAME"`
	SMTPPasswordFile      string `name:"smtp-password-file" help:"File with the password at the mail server." type:"path" placeholder:"FILE"`
	MailFrom              string `name:"mail-from" help:"Address that mail comes from; needed with smtp." placeholder:"ADDRESS"`
	DeliveryWebhook       string `name:"delivery-webhook" help:"URL that messages to users are posted to: SMS, and e-mail without smtp." secret:"" placeholder:"URL"`
	DeliveryWebhookSecret string `name:"delivery-webhook-secret-file" help:"File with the secret under which such requests are signed; at least 16 characters." type:"path" placeholder:"FILE"`
}

// Functions says how the functions of package function run.
type Functions struct {
	UnsafeFunctions  bool `help:"Run functions even where this machine lacks a layer of their sandbox; without it they are off there." placeholder:""`
	FunctionsNetwork bool `help:"Let functions use the network of this machine, loopback included; without it they reach this server's API and nothing else." placeholder:""`
	FunctionsAtOnce  int  `help:"Functions that run at the same time (default: twice the processors, at least 4); others wait." placeholder:"N"`
}

// Buckets says where bulk registrations find their input: by default in the data folder, which the S3 API serves, too.
type Buckets struct {
	S3Endpoint      string `name:"s3-endpoint" help:"Another server that speaks S3, on which bulk registrations find their input (default: the folder buckets in the data folder)." placeholder:"URL"`
	S3Region        string `name:"s3-region" help:"Region that requests to it are signed for (default: that of this server)." placeholder:"REGION"`
	S3AccessKey     string `name:"s3-access-key" help:"Id of the access key there; needs s3-secret-key-file." placeholder:"ID"`
	S3SecretKeyFile string `name:"s3-secret-key-file" help:"File with the secret of the access key there." type:"path" placeholder:"FILE"`
}

// A Port is a TCP port. Zero is the default; in text 0 is AnyPort.
type Port int

// AnyPort asks for a free port at first start, which is then kept.
const AnyPort Port = -1

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Port) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil {
		return fmt.Errorf("%q is no port: give a number from 1 to 65535, or 0 for any free one", text)
	}
	if *p = Port(n); n == 0 {
		*p = AnyPort
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (p Port) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(max(p, 0)), 10), nil }

// setDefaults gives every field that is zero what its tag default says.
func setDefaults(c *Config) { setDefaultsOf(reflect.ValueOf(c).Elem()) }

func setDefaultsOf(fields reflect.Value) {
	for i := range fields.NumField() {
		v, text := fields.Field(i), fields.Type().Field(i).Tag.Get("default")
		if fields.Type().Field(i).Anonymous {
			setDefaultsOf(v)
		}
		if text == "" || !v.IsZero() {
			continue
		}
		var err error
		switch p := v.Addr().Interface().(type) {
		case encoding.TextUnmarshaler:
			err = p.UnmarshalText([]byte(text))
		case *time.Duration:
			*p, err = time.ParseDuration(text)
		case *string:
			*p = text
		case *int:
			*p, err = strconv.Atoi(text)
		default:
			err = fmt.Errorf("defaults of type %T are not known here: add a case", p)
		}
		if err != nil {
			panic(fmt.Sprintf("server.Config.%s: %v", fields.Type().Field(i).Name, err)) // a tag of ours
		}
	}
}

const defaultPool = 32

// first is the value of a setting that is fixed at first start and that nobody has chosen.
func first(field string) string {
	f, ok := reflect.TypeFor[Config]().FieldByName(field)
	if !ok {
		panic("server.Config has no field " + field)
	}
	return f.Tag.Get("first")
}

// site is what an installation is called and where it listens: chosen at first start and then fixed, because issuers,
// endpoints and certificates name it.
type site struct {
	Scope     fleet.Scope
	Regions   []string // that are served beside that of Scope; not fixed
	Host      string
	HTTPSPort int
	MQTTPort  int
	CertPort  int // 0: none; not fixed
}

// serves reports whether a region is one of those that this server is.
func (s site) serves(region string) bool {
	return region == s.Scope.Region || slices.Contains(s.Regions, region)
}

// regions are all that are served, the one of the first account first.
func (s site) regions() []string { return append([]string{s.Scope.Region}, s.Regions...) }

func (s site) loopback() bool {
	if ip := net.ParseIP(s.Host); ip != nil {
		return ip.IsLoopback()
	}
	return s.Host == "localhost" || strings.HasSuffix(s.Host, ".localhost")
}

// names are the host names by which the server is meant as a whole. The credential provider has one of its own.
func (s site) names() []string {
	names := []string{s.Host, "localhost"}
	for _, host := range names {
		if name := gateway.CredentialHost(host); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// baseURL is the origin that clients are told, for example https://localhost:8443.
func (s site) baseURL() string {
	if s.HTTPSPort == 443 {
		return "https://" + hostForURL(s.Host)
	}
	return "https://" + net.JoinHostPort(s.Host, strconv.Itoa(s.HTTPSPort))
}

func hostForURL(h string) string {
	if strings.Contains(h, ":") {
		return "[" + h + "]"
	}
	return h
}

// listeners are the open ports; devices and metrics are nil unless they are asked for.
type listeners struct{ https, mqtt, devices, metrics net.Listener }

// openSite settles the site: from the store if it was fixed before, else from cfg, and opens both ports. A setting that
// contradicts what was fixed is refused, since devices and tokens in the field depend on it.
func openSite(ctx context.Context, db *store.DB, cfg Config) (site, listeners, error) {
	fixed := map[string]string{}
	names := []string{"host", "region", "account", "https-port", "mqtt-port", regionsSetting}
	// By the writer: a start that reads waits until a second connection has read the schema.
	err := db.Tx(ctx, func(tx *store.Tx) error {
		for _, name := range names {
			v, err := tx.Setting(name)
			if err != nil {
				return err
			}
			fixed[name] = v
		}
		return nil
	})
	if err != nil {
		return site{}, listeners{}, err
	}
	var s site
	var fresh bool
	port := func(n Port) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(int(n))
	}
	pick := func(name, asked, byDefault string) (string, error) {
		switch was := fixed[name]; {
		case was == "":
			fresh = true
			if asked == "" {
				return byDefault, nil
			}
			return asked, nil
		case asked != "" && asked != was && asked != port(AnyPort):
			return "", fmt.Errorf("this data folder was made for --%s %s; certificates, issuers and devices depend on it: start without --%[1]s, or with another --data", name, was)
		default:
			return was, nil
		}
	}
	var account, region, https, mqtt string
	var errs [5]error
	s.Host, errs[0] = pick("host", cfg.Host, first("Host"))
	region, errs[1] = pick("region", cfg.Region, first("Region"))
	account, errs[2] = pick("account", cfg.Account, first("Account"))
	https, errs[3] = pick("https-port", port(cfg.HTTPSPort), first("HTTPSPort"))
	mqtt, errs[4] = pick("mqtt-port", port(cfg.MQTTPort), first("MQTTPort"))
	if err := errors.Join(errs[:]...); err != nil {
		return s, listeners{}, err
	}
	if s.Scope, err = fleet.NewScope(account, region); err != nil {
		return s, listeners{}, err
	}
	if s.Regions, err = furtherRegions(s.Scope, cfg.Regions); err != nil {
		return s, listeners{}, err
	}
	if fixed[regionsSetting] != strings.Join(s.Regions, " ") {
		if err := db.Tx(ctx, func(tx *store.Tx) error { return changeRegions(tx, s) }); err != nil {
			return s, listeners{}, err
		}
	}
	var l listeners
	if l.https, s.HTTPSPort, err = s.listen(https); err != nil {
		return s, l, err
	}
	if l.mqtt, s.MQTTPort, err = s.listen(mqtt); err != nil {
		return s, l, errors.Join(err, l.https.Close())
	}
	if !fresh {
		return s, l, nil
	}
	err = db.Tx(ctx, func(tx *store.Tx) error {
		for name, v := range map[string]string{"host": s.Host, "region": region, "account": account,
			"https-port": strconv.Itoa(s.HTTPSPort), "mqtt-port": strconv.Itoa(s.MQTTPort)} {
			if err := tx.PutSetting(name, v); err != nil {
				return err
			}
		}
		exists, err := tx.AccountExists(account)
		if err != nil || exists {
			return err
		}
		return tx.CreateAccount(account, "main")
	})
	if err != nil {
		return s, listeners{}, errors.Join(err, l.https.Close(), l.mqtt.Close())
	}
	return s, l, nil
}

// furtherRegions are those of the setting that are not the first one.
func furtherRegions(home fleet.Scope, asked []string) (list []string, err error) {
	for _, region := range asked {
		if _, err := fleet.NewScope(home.Account, region); err != nil {
			return nil, fmt.Errorf("regions: %w", err)
		}
		if region != home.Region && !slices.Contains(list, region) {
			list = append(list, region)
		}
	}
	if len(list) > maxRegions {
		return nil, fmt.Errorf("regions: %d are too many: the server's certificate has the endpoint names of each, and %d fit in", len(list), maxRegions)
	}
	return list, nil
}

// regionsSetting is where the store keeps the further regions of the last start, with spaces between.
const regionsSetting = "regions"

// changeRegions notes the further regions of a site. It fails if what was one of them is none any more and has something in it:
// nobody would reach that, and its devices would go on.
func changeRegions(tx *store.Tx, s site) error {
	was, err := tx.Setting(regionsSetting) // again: another node may start as well
	if err != nil {
		return err
	}
	for _, region := range strings.Fields(was) {
		if s.serves(region) {
			continue
		}
		if has, err := tx.InRegion(region); err != nil || has != "" {
			return cmp.Or(err, fmt.Errorf("this data folder has %s in region %s: name it among --regions, or delete there what is not needed any more first", has, region))
		}
	}
	return tx.PutSetting(regionsSetting, strings.Join(s.Regions, " "))
}

// maxRegions bounds the names in the server's certificate, which each handshake carries: three for each region.
const maxRegions = 32

// makePrivate makes an empty file that only the owner can read, if there is none; what SQLite puts beside it gets its mode.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// openData makes the data folder if it is not there, checks that nobody else can read it, and locks it: two servers on one
// folder would lose writes of each other.
func openData(dir string) (unlock func() error, err error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others can read the data folder %s (mode %04o): chmod 700 it", dir, info.Mode().Perm())
	}
	return lockFile(filepath.Join(dir, "lock"))
}
