package samlsp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Namespaces (saml-core-2.0-os 1.1, xmldsig-core).
const (
	protocolNS  = "urn:oasis:names:tc:SAML:2.0:protocol"
	assertionNS = "urn:oasis:names:tc:SAML:2.0:assertion"
	signatureNS = "http://www.w3.org/2000/09/xmldsig#"
)

// How large a tree may be.
const (
	maxDepth      = 32
	maxElements   = 5000
	maxAttributes = 64 // of an element
)

// Algorithms that are believed. SHA-1 and everything with a shared key is not among them.
var (
	signatureMethods = []string{"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
		"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
		"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512"}
	digestMethods = []string{"http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384",
		"http://www.w3.org/2001/04/xmlenc#sha512"}
	canonicalizations = []string{"http://www.w3.org/2001/10/xml-exc-c14n#", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
		"http://www.w3.org/2006/12/xml-c14n11"}
	transforms = append([]string{signatureNS + "enveloped-signature"}, canonicalizations...)
)

// comments says that a document may have comments. No provider writes any into an answer, and programs differ in what text is when a
// comment stands in it, so there they are refused.
const comments = true

// plainXML walks a document and refuses all that XML has beyond elements, attributes and text: a document type with its entities,
// processing instructions, trees without end.
func plainXML(doc []byte, comments bool) error {
	return walk(doc, comments, func([]element) error { return nil })
}

// element is an element that is open, with what was seen in it so far.
type element struct {
	xml.StartElement
	children map[xml.Name]int
}

func (e element) is(space, local string) bool { return e.Name.Space == space && e.Name.Local == local }

func (e element) attribute(name string) string {
	for _, a := range e.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// walk calls visit at the start of each element with the elements that are open, itself last.
func walk(doc []byte, comments bool, visit func(open []element) error) error {
	d := xml.NewDecoder(bytes.NewReader(doc))
	var open []element
	count := 0
	for {
		token, err := d.Token()
		if err == io.EOF && count > 0 && len(open) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no XML: %w", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return errors.New("it has a document type or another directive")
		case xml.ProcInst:
			if t.Target != "xml" || count > 0 {
				return errors.New("it has a processing instruction")
			}
		case xml.Comment:
			if !comments {
				return errors.New("it has a comment")
			}
		case xml.StartElement:
			if count++; count > maxElements || len(open) >= maxDepth || len(t.Attr) > maxAttributes {
				return errors.New("it has too many elements, levels or attributes")
			}
			if count > 1 && len(open) == 0 {
				return errors.New("it has more than one root")
			}
			if len(open) > 0 {
				open[len(open)-1].children[t.Name]++
			}
			open = append(open, element{t.Copy(), map[xml.Name]int{}})
			if err := visit(open); err != nil {
				return err
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) == 0 && len(bytes.TrimSpace(t)) > 0 {
				return errors.New("it has text beside its root")
			}
		}
	}
}

// checkForm takes documents of one shape only: a Response with one Assertion as its child and none elsewhere, signed itself or as a
// whole, by signatures that stand where they belong and each cover the element that they stand in. A document that a wrapping attack
// needs has another shape.
func checkForm(doc []byte) error {
	f := form{ids: map[string]bool{}, references: map[string]int{}}
	if err := walk(doc, !comments, f.visit); err != nil {
		return refuse("%v", err)
	}
	switch {
	case f.encrypted:
		return refuse("its assertion is encrypted, which is not offered: turn encryption off at the provider")
	case f.assertions != 1:
		return refuse("it has %d assertions in place of one", f.assertions)
	case f.signatures == 0:
		return refuse("neither it nor its assertion is signed: let the provider sign assertions")
	case f.subjects != 1 || f.conditions != 1 || f.confirmations == 0 || f.confirmations != f.confirmationData:
		return refuse("its assertion lacks its subject, the confirmation of it, or conditions") // which the library takes for granted
	}
	for signed, n := range f.references {
		if n != 1 {
			return refuse("the signature of its %s has %d references in place of one", signed, n)
		}
	}
	return nil
}

type form struct {
	assertions, signatures          int
	subjects, conditions            int
	confirmations, confirmationData int
	encrypted                       bool
	ids                             map[string]bool
	references                      map[string]int // of signatures, by the name of what they stand in
}

// visit looks at one element in its place.
func (f *form) visit(open []element) error {
	at := open[len(open)-1]
	parent := element{}
	if len(open) > 1 {
		parent = open[len(open)-2]
	}
	if err := f.identify(at); err != nil {
		return err
	}
	signed := slices.IndexFunc(open, func(e element) bool { return e.Name.Space == signatureNS })
	switch local := at.Name.Local; {
	case len(open) == 1:
		if !at.is(protocolNS, "Response") {
			return errors.New("its root is no Response")
		}
	case strings.EqualFold(local, "Assertion"):
		f.assertions++
		if !at.is(assertionNS, "Assertion") || len(open) != 2 {
			return errors.New("it has an Assertion where none belongs")
		}
	case strings.EqualFold(local, "EncryptedAssertion"), strings.EqualFold(local, "EncryptedData"), strings.EqualFold(local, "EncryptedID"):
		f.encrypted = true
	case strings.EqualFold(local, "Response"):
		return errors.New("it has a Response within")
	case local == "Signature" && at.Name.Space == signatureNS:
		f.signatures++
		if signed != len(open)-1 || !parent.is(protocolNS, "Response") && !parent.is(assertionNS, "Assertion") || parent.children[at.Name] > 1 {
			return errors.New("it has a Signature where none belongs")
		}
		f.references[parent.Name.Local] = 0
	case signed >= 0:
		return f.visitSignature(open[signed-1], parent, at)
	case strings.EqualFold(local, "Signature"):
		return errors.New("it has a Signature of another namespace")
	default:
		return f.visitContent(parent, at)
	}
	return nil
}

// visitContent counts what an assertion must have.
func (f *form) visitContent(parent, at element) error {
	switch {
	case parent.is(assertionNS, "Assertion") && at.Name.Local == "Subject":
		f.subjects++
	case parent.is(assertionNS, "Assertion") && at.Name.Local == "Conditions":
		f.conditions++
	case parent.is(assertionNS, "Subject") && at.Name.Local == "SubjectConfirmation":
		f.confirmations++
	case parent.is(assertionNS, "SubjectConfirmation") && at.Name.Local == "SubjectConfirmationData":
		if f.confirmationData++; parent.children[at.Name] > 1 {
			return errors.New("a confirmation of its subject has more than one part")
		}
	}
	return nil
}

// identify keeps ids unique: what a signature refers to must be one element.
func (f *form) identify(at element) error {
	for _, a := range at.Attr {
		if !strings.EqualFold(a.Name.Local, "id") {
			continue
		}
		if f.ids[a.Value] || a.Value == "" {
			return errors.New("it has an id twice, or an empty one")
		}
		f.ids[a.Value] = true
	}
	return nil
}

// visitSignature looks at an element of the signature that stands in signed.
func (f *form) visitSignature(signed, parent, at element) error {
	algorithm := at.attribute("Algorithm")
	known := func(list []string) error {
		if !slices.Contains(list, algorithm) {
			return fmt.Errorf("its signature uses the algorithm %.120q", algorithm)
		}
		return nil
	}
	switch at.Name.Local {
	case "SignedInfo", "SignatureValue", "KeyInfo":
		if !parent.is(signatureNS, "Signature") || parent.children[at.Name] > 1 {
			return errors.New("its signature is malformed")
		}
	case "Object", "Manifest", "RetrievalMethod":
		return errors.New("its signature has parts that none needs")
	case "CanonicalizationMethod":
		return known(canonicalizations)
	case "SignatureMethod":
		return known(signatureMethods)
	case "DigestMethod":
		return known(digestMethods)
	case "Transform":
		return known(transforms)
	case "Reference":
		if f.references[signed.Name.Local]++; !parent.is(signatureNS, "SignedInfo") {
			return errors.New("its signature is malformed")
		}
		if id := signed.attribute("ID"); id == "" || at.attribute("URI") != "#"+id {
			return errors.New("its signature does not cover the element that it stands in")
		}
	}
	return nil
}
