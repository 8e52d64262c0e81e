package keymaker

import (
	"bufio"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
)

// processName is the name under which the process is started and which ps shows.
const processName = "imprint-keymaker"

// Main makes keys, and never returns, if this process was started for that. It must come before everything else.
func Main() {
	if len(os.Args) < 3 || os.Args[0] != processName {
		return
	}
	if err := makeKeys(Priority(os.Args[1]), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// makeKeys writes a key for each byte that it reads, until it can read no more.
func makeKeys(priority Priority, workers string) error {
	if err := forbidDumps(); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	if err := lower(priority); err != nil {
		return fmt.Errorf("lowering the priority: %w", err)
	}
	n, err := strconv.Atoi(workers)
	if err != nil || n < 1 {
		return fmt.Errorf("%q workers", workers)
	}
	wanted := make(chan struct{}, 1024)
	var mu sync.Mutex // of the output
	for i := range n {
		go func() {
			random := breathing{newBreather(priority, i, n)}
			for range wanted {
				if err := writeKey(&mu, random); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		}()
	}
	for in := bufio.NewReader(os.Stdin); ; {
		if _, err := in.ReadByte(); err != nil {
			return nil // the service is gone; so is whatever is in work
		}
		wanted <- struct{}{}
	}
}

// breathing is the system's randomness for who makes keys. Go uses it in place of its own if GODEBUG says cryptocustomrand=1.
type breathing struct{ *breather }

func (b breathing) Read(p []byte) (int, error) {
	b.breathe()
	return rand.Read(p)
}

func writeKey(mu *sync.Mutex, random io.Reader) error {
	if fips140.Enabled() { // no other randomness is approved there
		random = rand.Reader
	}
	key, err := rsa.GenerateKey(random, 2048)
	if err != nil {
		return err
	}
	der := x509.MarshalPKCS1PrivateKey(key)
	defer clear(der)
	frame := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(der)), uint16(len(der))), der...)
	defer clear(frame)
	mu.Lock()
	defer mu.Unlock()
	_, err = os.Stdout.Write(frame)
	return err
}
