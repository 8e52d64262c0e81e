package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// errPIN marks what is wrong with the PIN.
var errPIN = errors.New("PIN")

const (
	pinCredential = "imprint-pkcs11-pin"
	pinVariable   = "IMPRINT_PKCS11_PIN"
	maxPIN        = 256 // bytes
)

// readPIN takes the PIN from a systemd credential, else from the file, else from the environment. It is never an argument.
func readPIN(file string) (string, error) {
	fromEnv := os.Getenv(pinVariable)
	if err := os.Unsetenv(pinVariable); err != nil { // children and crash reports need not have it
		return "", err
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		text, err := os.ReadFile(filepath.Join(dir, pinCredential))
		if err == nil {
			return checkPIN(string(text), "the credential "+pinCredential)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%w: %w", errPIN, err)
		}
	}
	if file != "" {
		info, err := os.Stat(file)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errPIN, err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return "", fmt.Errorf("%w: others may read or change %s (mode %04o): run chmod 600 %[2]s", errPIN, file, mode)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errPIN, err)
		}
		return checkPIN(string(text), file)
	}
	if fromEnv != "" {
		return checkPIN(fromEnv, pinVariable)
	}
	return "", fmt.Errorf("%w: there is none: give --pin-file, the systemd credential %s or the variable %s", errPIN, pinCredential, pinVariable)
}

func checkPIN(text, from string) (string, error) {
	pin := strings.TrimRight(text, "\r\n")
	if pin == "" || len(pin) > maxPIN || strings.ContainsAny(pin, "\r\n") {
		return "", fmt.Errorf("%w: %s must hold one line of 1 to %d bytes", errPIN, from, maxPIN)
	}
	return pin, nil
}
