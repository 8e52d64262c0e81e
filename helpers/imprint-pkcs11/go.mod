module github.com/imprint-iot/imprint/helpers/imprint-pkcs11

go 1.26.0

require (
	github.com/ThalesGroup/crypto11 v1.5.0
	github.com/alecthomas/kong v1.17.0
	github.com/imprint-iot/imprint v0.0.0
	github.com/miekg/pkcs11 v1.1.1
)

require (
	github.com/pkg/errors v0.9.1 // indirect
	github.com/thales-e-security/pool v0.0.2 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/imprint-iot/imprint => ../..
