// Package server puts the parts together: it opens a data folder, wires store, rules and edges explicitly in one place, and
// listens. Begin with Config, then Start in server.go; tests and the command start the same value.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Config is what an operator may choose. The zero Config works: loopback, default ports, data in ./imprint-data.
type Config struct {
	Data          string // folder of everything that is kept; default ./imprint-data
	Host          string // name or address that clients use; default localhost. Fixed at first start.
	Region        string // default us-east-1. Fixed at first start.
	Account       string // 12 digits of the first account; default 000000000000. Fixed at first start.
	HTTPSPort     int    // default 8443, AnyPort for any free one. Fixed at first start.
	MQTTPort      int    // default 8883, AnyPort for any free one. Fixed at first start.
	EnvFile       string // where to write the environment file; default Data/imprint.env
	MasterKeyFile string // see pki.LoadMasterKey; default a file in Data
	MasterKeyCmd  string
	OutboxDir     string // where messages to users are written; default Data/outbox
	CORSOrigins   []string
	KeyPool       int // RSA keys kept ready; default 32

	Version string // of this build, for the metrics

	Clock fleet.Clock
	Log   *slog.Logger
}

// AnyPort asks for a free port at first start, which is then kept.
const AnyPort = -1

const (
	defaultData    = "imprint-data"
	defaultHost    = "localhost"
	defaultRegion  = "us-east-1"
	defaultAccount = "000000000000"
	defaultHTTPS   = 8443
	defaultMQTT    = 8883
	defaultPool    = 32
)

// site is what an installation is called and where it listens: chosen at first start and then fixed, because issuers,
// endpoints and certificates name it.
type site struct {
	Scope     fleet.Scope
	Host      string
	HTTPSPort int
	MQTTPort  int
}

func (s site) loopback() bool {
	if ip := net.ParseIP(s.Host); ip != nil {
		return ip.IsLoopback()
	}
	return s.Host == "localhost" || strings.HasSuffix(s.Host, ".localhost")
}

// bind is the address to listen on: loopback stays on loopback, any other host means every interface.
func (s site) bind(port int) string {
	host := ""
	if s.loopback() {
		host = "127.0.0.1"
		if net.ParseIP(s.Host) != nil {
			host = s.Host
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
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

// listeners are the two open ports.
type listeners struct{ https, mqtt net.Listener }

// openSite settles the site: from the store if it was fixed before, else from cfg, and opens both ports. A setting that
// contradicts what was fixed is refused, since devices and tokens in the field depend on it.
func openSite(ctx context.Context, db *store.DB, cfg Config) (site, listeners, error) {
	fixed := map[string]string{}
	names := []string{"host", "region", "account", "https-port", "mqtt-port"}
	err := db.View(ctx, func(tx *store.Tx) error {
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
	var first bool
	pick := func(name, asked, byDefault string) (string, error) {
		switch was := fixed[name]; {
		case was == "":
			first = true
			if asked == "" {
				return byDefault, nil
			}
			return asked, nil
		case asked != "" && asked != was && asked != strconv.Itoa(AnyPort):
			return "", fmt.Errorf("this data folder was made for --%s %s; certificates, issuers and devices depend on it: start without --%[1]s, or with another --data", name, was)
		default:
			return was, nil
		}
	}
	port := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	var account, region, https, mqtt string
	var errs [5]error
	s.Host, errs[0] = pick("host", cfg.Host, defaultHost)
	region, errs[1] = pick("region", cfg.Region, defaultRegion)
	account, errs[2] = pick("account", cfg.Account, defaultAccount)
	https, errs[3] = pick("https-port", port(cfg.HTTPSPort), port(defaultHTTPS))
	mqtt, errs[4] = pick("mqtt-port", port(cfg.MQTTPort), port(defaultMQTT))
	if err := errors.Join(errs[:]...); err != nil {
		return s, listeners{}, err
	}
	if s.Scope, err = fleet.NewScope(account, region); err != nil {
		return s, listeners{}, err
	}
	var l listeners
	if l.https, s.HTTPSPort, err = s.listen(https); err != nil {
		return s, l, err
	}
	if l.mqtt, s.MQTTPort, err = s.listen(mqtt); err != nil {
		return s, l, errors.Join(err, l.https.Close())
	}
	if !first {
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

func (s site) listen(port string) (net.Listener, int, error) {
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, 0, fmt.Errorf("port %q is not a number", port)
	}
	l, err := net.Listen("tcp", s.bind(max(n, 0)))
	if err != nil {
		return nil, 0, fmt.Errorf("%w (is another server running? --https-port 0 --mqtt-port 0 take any free ports for a new data folder)", err)
	}
	return l, l.Addr().(*net.TCPAddr).Port, nil
}

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
