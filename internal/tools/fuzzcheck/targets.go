package main

// A target is a fuzz target: what it is for, and a bug that it must find.
type target struct {
	pkg, fuzz string
	// parser lists the functions that read what strangers send: a file below pkg, or the file and names of functions in it.
	parser []string
	bug    bug
}

func (x target) String() string { return x.pkg + "." + x.fuzz }

// A bug is a change to the parser, by text, as somebody could make it by mistake.
type bug struct{ file, was, now string }

var targets = []target{
	// What devices send.
	{"internal/mqtt", "FuzzDecode", []string{"decode.go", "properties.go properties.life properties.forwarded cursor.properties cursor.property cursor.bit cursor.notZero cursor.atMost"},
		bug{"decode.go", "out := c.b[:n:n]\n\tc.b = c.b[n:]", "out := c.b[:n:n]\n\tif c.b = c.b[n:]; n > 0 && len(c.b) == 0 {\n\t\tout = out[:n-1]\n\t}"}},
	{"internal/mqtt", "FuzzTree", []string{"tree.go tree.init tree.add tree.leaf tree.remove leaf.prune node.prune tree.match node.match node.step hits.free hits.index"},
		bug{"tree.go", "if !literal {", "if !literal || len(level) > 3 {"}},
	{"internal/wire", "FuzzCBOR", []string{"topic.go", "bind.go binder.bind binder.bindStruct binder.bindField binder.bindMap binder.bindElem objectOf mapOf stringOf"},
		bug{"topic.go", "UTF8:             cbor.UTF8RejectInvalid,", "UTF8:             cbor.UTF8DecodeInvalid,"}},
	{"internal/pki", "FuzzParseCSR", []string{"csr.go ParseCSR subjectOf keyFault rsaFault"},
		bug{"csr.go", "case block == nil:", "case block == nil && len(text) > 30:"}},
	{"internal/pki", "FuzzCSRSubject", []string{"csr.go subjectOf", "name.go readName readAttribute decodeString isPrintable"},
		bug{"name.go", "if !ok || strings.ContainsFunc(text, unicode.IsControl) {", "if !ok && strings.ContainsFunc(text, unicode.IsControl) {"}},
	{"internal/pki", "FuzzParseFacts", []string{"facts.go"},
		bug{"facts.go", "if strings.ContainsAny(v, \"*$+?#\") ||", "if strings.ContainsAny(v, \"*$+?\") ||"}},
	{"internal/pki", "FuzzCustomerCA", []string{"customerca.go", "registered.go ParseCertificatePEM CheckRegistrable"},
		bug{"customerca.go", "if len(names) != 1 || subtle", "if len(names) == 1 && subtle"}},
	{"internal/provision", "FuzzOpenToken", []string{"token.go Service.openToken"},
		bug{"token.go", "if err != nil || len(b) < 73 || b[0] != tokenVersion {", "if b[0] != tokenVersion || err != nil {"}},

	// What clients send.
	{"internal/wire", "FuzzJSON", []string{"parse.go", "bind.go"},
		bug{"bind.go", "f, err := x.Float64() // 5.0 and 1e3 are whole\n\t\treturn int64(f), err == nil && f == math.Trunc(f)", "f, err := x.Float64()\n\t\treturn int64(f), err == nil"}},
	{"internal/wire", "FuzzQuery", []string{"query.go parseForm form.put form.list form.entries"},
		bug{"query.go", "if err != nil || n < 1 || k[0] == '0' || k[0] == '+' {", "if k[0] == '0' || k[0] == '+' || err != nil || n < 1 {"}},
	{"internal/wire", "FuzzPath", []string{"dispatch.go rawTarget Frontend.dispatch Frontend.byPath", "route.go route.find route.walk match.choose wants", "rest.go parseQuery queryMember"},
		bug{"dispatch.go", "target = \"/\" + after\n", "target = after[:1] + after\n"}},
	{"internal/sigv4", "FuzzAuthorization", []string{"parse.go Parse parseHeader parseQuery Signature.fill", "canonical.go", "sigv4.go Verifier.Verify Verifier.checkScope Verifier.checkTime checkHeaders"},
		bug{"parse.go", "if len(part) != 5 || part[0] == \"\"", "if len(part) < 3 || part[0] == \"\""}},
	{"internal/sigv4", "FuzzChunks", []string{"chunks.go"},
		bug{"chunks.go", "if err != nil || n > maxChunk {\n\t\treturn false, ErrChunks", "if n > maxChunk {\n\t\treturn false, ErrChunks"}},
	{"internal/bucket", "FuzzKeys", []string{"key.go"},
		bug{"key.go", "|| c == '.' && i == 0 {", "|| c == '.' && i == 0 && len(seg) < 3 {"}},
	{"internal/bucket", "FuzzNames", []string{"key.go decodeSegment"},
		bug{"key.go", "return string(out), again.String() == name &&", "return string(out), again.Len() == len(name) &&"}},
	{"internal/jwt", "FuzzParse", []string{"jwt.go Parse decodePart Token.Verify Claims.Strings Claims.Time"},
		bug{"jwt.go", "if len(parts) != 3 {", "if len(parts) < 2 {"}},
	{"internal/oidc", "FuzzToken", []string{"oidc.go parse decode parsed.check onlyID audience Token.times numericDate SameIssuer"},
		bug{"oidc.go", "case present && !slices.Contains(e.Audiences, party):", "case present && e.Party && !slices.Contains(e.Audiences, party):"}},
	{"internal/oidc", "FuzzPublished", []string{"provider.go parseMetadata parseKeys algorithmOf"},
		bug{"provider.go", "err != nil || u.Scheme != \"https\" || u.Hostname() == \"\" || u.User != nil {\n\t\t\treturn", "err != nil || u.Hostname() == \"\" || u.User != nil {\n\t\t\treturn"}},
	{"internal/webauthn", "FuzzRegistration", []string{"webauthn.go members read readBytes parseEnvelope parseClientData clientData.check Covers ParseRegistration known Registration.Check", "authdata.go", "key.go parseKey"},
		bug{"authdata.go", "n == 0 || n > maxID || n > len(b) {", "n == 0 || n > maxID {"}},
	{"internal/webauthn", "FuzzAssertion", []string{"webauthn.go members read readBytes parseEnvelope parseClientData clientData.check ParseAssertion Assertion.Check Assertion.SignedBy", "authdata.go parseAuthenticatorData authenticatorData.check", "key.go publicKey.verify"},
		bug{"authdata.go", "if len(b) < fixed {", "if len(b) < fixed-1 {"}},
	{"internal/iam", "FuzzWebTags", []string{"webtags.go webTags"},
		bug{"webtags.go", "if setTag(tags, key, values[0]); len(tags) == before {", "if tags[key] = values[0]; len(tags) == before {"}},
	{"internal/policy", "FuzzParse", []string{"parse.go Parse parse compile statementList compiler.statement compiler.either compiler.actions compiler.resources arnPattern.variablesInHead compiler.principals compiler.conditions stringList scalarList object.get object.only decode decodeValue closing plain", "principal.go principals.add principals.addAWS", "condition.go compileCondition operand.compile parseNumber parseDate parseNet",
		"pattern.go compileGlob cutVariable variableToken newARNPattern cutColon"},
		bug{"pattern.go", "for i := 2; i < len(s); i++ {", "for i := 2; i <= len(s); i++ {"}},
	{"internal/policy", "FuzzEvaluate", []string{"pattern.go", "condition.go condition.holds condition.resolved condition.matchesAny condition.matchesOne"},
		bug{"pattern.go", "if found && hasPrefix(s[pos:], text, fold) {", "if found && hasPrefix(s[pos:min(pos+len(text), pos+40)], text, fold) {"}},
	{"internal/template", "FuzzEvaluate", []string{"parse.go", "json.go", "document.go", "function.go", "resource.go", "value.go", "evaluate.go"},
		bug{"function.go", "if width < 0 {\n\t\t\treturn nil, fmt.Errorf(`\"${\" without its \"}\"`)\n\t\t}\n", ""}},
	{"internal/wire", "FuzzToken", []string{"listing.go"},
		bug{"listing.go", "|| !bytes.HasPrefix(text, l.mark[:]) || len(text) == len(l.mark) {", "|| !bytes.HasPrefix(l.mark[:], text[:min(len(text), len(l.mark))]) {"}},
	{"internal/api/iotdata", "FuzzUserProperties", []string{"iotdata.go userProperties"},
		bug{"iotdata.go", "|| len(text) > maxUserProperties {", "{"}},
	{"internal/federation/samlsp", "FuzzAccept", []string{"form.go", "assertion.go verifier.assertion assertion.check assertion.lifetime assertion.confirmed instant.UnmarshalXMLAttr within", "samlsp.go Provider.Accept why verifier.VerifySignature"},
		bug{"assertion.go", "case len(a.Subject.NameID) != 1:", "case len(a.Subject.NameID) > 1:"}},
	{"internal/federation/samlsp", "FuzzSigned", []string{"assertion.go verifier.assertion assertion.check assertion.lifetime assertion.confirmed instant.UnmarshalXMLAttr within"},
		bug{"assertion.go", "if !slices.ContainsFunc(r.Audiences, func(s string) bool { return strings.TrimSpace(s) == us.EntityID }) {", "if len(r.Audiences) == 0 {"}},
	{"internal/federation/samlsp", "FuzzMetadata", []string{"samlsp.go ParseMetadata entitiesOf isWebURL Provider.Request", "assertion.go signingCertificates"},
		bug{"samlsp.go", "if !isWebURL(p.SSO) {", "if p.SSO == \"\" {"}},
	{"internal/userpool", "FuzzTriggerAnswer", []string{"triggers.go readResponse members member", "tokentrigger.go readClaimsV1 readClaimsV2 readGroups claimChanges.apply overrides.scopes fixedClaim"},
		bug{"tokentrigger.go", "if !fixedClaim(name) && v != nil {", "if v != nil {"}},
	{"internal/userpool", "FuzzParseFilter", []string{"filter.go"},
		bug{"filter.go", "case c == '\\\\' && i+1 < len(s):", "case c == '\\\\':"}},
	{"internal/userpool", "FuzzImport", []string{"importfile.go"},
		bug{"importfile.go", "if i += from; i > 0 && rest[i-1] == '\\\\' {", "if i += from; rest[i-1] == '\\\\' {"}},
	{"internal/userpool", "FuzzPageKey", []string{"pools.go pageKey"},
		bug{"pools.go", "if err != nil || !ok || key == \"\" {", "if err != nil || !ok {"}},
	{"internal/userpool", "FuzzParseRefresh", []string{"tokens.go parseRefresh"},
		bug{"tokens.go", "|| len(token) > 128 || len(id) != 22 {", "|| len(token) > 128 || len(id) < 22 {"}},
	{"internal/userpool", "FuzzParseSRPA", []string{"srp.go parseSRPA"},
		bug{"srp.go", "if !ok || a.Sign() == 0 || a.Cmp(srpN) >= 0 {", "if !ok || a.Cmp(srpN) >= 0 {"}},

	{"internal/rulesql", "FuzzParse", []string{"parse.go", "parseoperator.go", "parsevalue.go", "lex.go"},
		bug{"lex.go", "strings.ReplaceAll(src[pos+1:i-1], quote+quote, quote)", "src[pos+1:i-1]"}},
	{"internal/rulesql", "FuzzRun", []string{"eval.go", "function.go", "textfunc.go", "numberfunc.go", "timefunc.go"},
		bug{"json.go", "if c >= ' ' && c != '\"' && c != '\\\\' {", "if c >= ' ' && c != '\"' {"}},
	{"internal/web/hosted", "FuzzRequest", []string{"authorize.go parseForm carry requestOf formTarget"},
		bug{"authorize.go", "if len(v) > 1 {", "if len(v) > 2 {"}},
	{"internal/web/hosted", "FuzzClient", []string{"token.go clientOf"},
		bug{"token.go", "case id != \"\" && id != name:", "case id != \"\" && len(id) != len(name):"}},
	{"internal/userpool", "FuzzRedirect", []string{"oauthclient.go badRedirect"},
		bug{"oauthclient.go", "if u.User != nil {", "if u.User.Username() != \"\" {"}},
	{"internal/userpool", "FuzzLook", []string{"look.go ParseLook withoutComments excerpt"},
		bug{"look.go", "property, value = strings.ToLower(strings.TrimSpace(property)), strings.TrimSpace(value)\n\t\t\tlower := strings.ToLower(value)", "property, value = strings.ToLower(strings.TrimSpace(property)), strings.TrimSpace(value)\n\t\t\tlower := value"}},
	{"internal/rulesql", "FuzzJSON", []string{"json.go"},
		bug{"json.go", "if r.i+5 > len(r.s) {", "if r.i+4 > len(r.s) {"}},

	{"internal/lambda", "FuzzUnzip", []string{"zip.go unzip entries entryName extracted bounded.Read unreadable"},
		bug{"zip.go", "case !fs.ValidPath(name) || name == \".\":", "case strings.HasPrefix(name, \"/\"):"}},
	{"internal/hook", "FuzzDecide", []string{"event.go decide isTrue members"},
		bug{"event.go", "if _, err := dec.Token(); err != io.EOF {", "if _, err := dec.Token(); err != io.EOF && len(doc) > 40 {"}},

	// What lies on disks, and what other processes of ours say.
	{"internal/server", "FuzzBackup", []string{"archive.go readBackup readSmall checkManifest"},
		bug{"archive.go", "twice || !backupName.MatchString(h.Name) || len(found)", "twice || len(found)"}},
	{"internal/server", "FuzzForwarded", []string{"admission.go strangers.forwarded listed"},
		bug{"admission.go", "ip.Unmap().String(), port", "hop, port"}},
	{"cmd/imprint", "FuzzConfigFile", []string{"settings.go parseConfig yamlError pairs scalar kindOf line"},
		bug{"settings.go", "case !slices.Contains(known, key):", "case !slices.Contains(known, strings.TrimSpace(key)):"}},
	{"internal/pki", "FuzzSealerOpen", []string{"sealer.go Sealer.Open sealedUnder bound"},
		bug{"sealer.go", "if len(sealed) < SealOverhead || sealed[0] != sealVersion {", "if sealed[0] != sealVersion || len(sealed) < SealOverhead {"}},
	{"internal/pki/keyhelper", "FuzzRequest", []string{"protocol.go readFrame parseRequest request.check request.named request.options", "helper.go helper.answer helper.do"},
		bug{"protocol.go", "case len(r.Digest) != hash.Size():", "case len(r.Digest) < hash.Size():"}},
	{"internal/pki/keyhelper", "FuzzAnswer", []string{"protocol.go readFrame refusal.err", "keys.go parseAnswer"},
		bug{"protocol.go", "case codeUnavailable:\n\t\treturn unavailable(errors.New(r.Message))", "case codeUnavailable:\n\t\treturn nil"}},

	// What servers and people give to a device.
	{"device", "FuzzParseClaim", []string{"claim.go ParseClaim offset Claim.setPair Claim.check parseTime parseRoots validTemplate"},
		bug{"claim.go", "if err != nil || !(f >= 0 && f < 1<<40) {", "if err != nil {"}},
	{"device/internal/cbor", "FuzzDecode", []string{"cbor.go Decode decoder.head decoder.item decoder.text decoder.more decoder.array decoder.mapping simple"},
		bug{"cbor.go", "if m != major || i == indefinite {", "if i == indefinite {"}},
	{"device/internal/mqtt", "FuzzServer", []string{"packet.go readPacket parseConnack parsePublish parsePuback parseSuback parseDisconnect reader.take reader.byte reader.uint16 reader.uint32 reader.string reader.varint reader.properties"},
		bug{"packet.go", "return make([]byte, min(n, 4))", "return make([]byte, min(n, len(r.b)))"}},
}
