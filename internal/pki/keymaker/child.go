package keymaker

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"fmt"
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
	for range n {
		go func() {
			for range wanted {
				if err := writeKey(&mu); err != nil {
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

func writeKey(mu *sync.Mutex) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
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
