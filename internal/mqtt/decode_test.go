package mqtt

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// parse decodes one packet from bytes as a connection would.
func parse(b []byte, version byte) (*packet, error) {
	var head [2]byte
	r := bytes.NewReader(b)
	first, n, err := readHeader(r, &head)
	if err != nil {
		return nil, err
	}
	if n > MaxPacket {
		return nil, clientError(codeTooLarge, "too large")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return decode(first, body, version)
}

// Packets that the library takes, or that make it panic, and that the standard forbids.
func TestMalformedPacketsAreRefused(t *testing.T) {
	t.Parallel()
	connect := func(flags byte, rest ...byte) []byte {
		b := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 60}, rest...)
		return append([]byte{0x10, byte(len(b))}, b...)
	}
	connect5 := func(props ...byte) []byte {
		b := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, byte(len(props))}, props...)
		b = append(b, 0, 1, 'c')
		return append([]byte{0x10, byte(len(b))}, b...)
	}
	for name, tt := range map[string]struct {
		version byte
		packet  []byte
		code    byte
	}{
		"a remaining length of five bytes":                  {4, []byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}, codeMalformed},
		"a remaining length that is too long for its value": {4, []byte{0xc0, 0x80, 0}, codeMalformed},
		"type 0":                          {4, []byte{0, 0}, codeProtocolError},
		"a CONNACK from a client":         {4, []byte{0x20, 2, 0, 0}, codeProtocolError},
		"a PINGREQ with a body":           {4, []byte{0xc0, 1, 0}, codeMalformed},
		"a PINGREQ with flags":            {4, []byte{0xc1, 0}, codeMalformed},
		"a duplicate at QoS 0":            {4, []byte{0x38, 3, 0, 1, 't'}, codeMalformed},
		"QoS 3":                           {4, []byte{0x36, 5, 0, 1, 't', 0, 1}, codeMalformed},
		"packet id 0":                     {4, []byte{0x32, 5, 0, 1, 't', 0, 0}, codeProtocolError},
		"a topic that is not UTF-8":       {4, []byte{0x30, 3, 0, 1, 0xff}, codeMalformed},
		"a topic with the null character": {4, []byte{0x30, 3, 0, 1, 0}, codeMalformed},
		"a topic beyond the packet":       {4, []byte{0x30, 3, 0, 9, 't'}, codeMalformed},
		"a PUBACK with a body that 3.1.1 does not have":   {4, []byte{0x40, 3, 0, 1, 0}, codeMalformed},
		"a SUBSCRIBE without filters":                     {4, []byte{0x82, 2, 0, 1}, codeProtocolError},
		"a SUBSCRIBE with a filter without options":       {5, []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'}, codeMalformed},
		"a SUBSCRIBE with reserved bits":                  {4, []byte{0x82, 6, 0, 1, 0, 1, 'a', 5}, codeMalformed},
		"a SUBSCRIBE with reserved bits of MQTT 5":        {5, []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 0x41}, codeMalformed},
		"a SUBSCRIBE with retain handling 3":              {5, []byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 0x31}, codeMalformed},
		"a SUBSCRIBE with a subscription identifier":      {5, []byte{0x82, 9, 0, 1, 2, packets.PropSubscriptionIdentifier, 1, 0, 1, 'a', 1}, codeSubscriptionID},
		"an UNSUBSCRIBE without filters":                  {4, []byte{0xa2, 2, 0, 1}, codeProtocolError},
		"a CONNECT with the reserved flag":                {0, connect(3, 0, 1, 'c'), codeMalformed},
		"a CONNECT with will QoS 3":                       {0, connect(0x1e, 0, 1, 'c', 0, 1, 't', 0, 0), codeMalformed},
		"a CONNECT with will retain but no will":          {0, connect(0x22, 0, 1, 'c'), codeMalformed},
		"a CONNECT with will QoS but no will":             {0, connect(0x0a, 0, 1, 'c'), codeMalformed},
		"a CONNECT with a password but no user name":      {0, connect(0x42, 0, 1, 'c', 0, 1, 'p'), codeMalformed},
		"a CONNECT with bytes behind its end":             {0, connect(2, 0, 1, 'c', 9), codeMalformed},
		"a CONNECT with a user name that is not UTF-8":    {0, connect(0x82, 0, 1, 'c', 0, 1, 0xff), codeMalformed},
		"a CONNECT of another protocol":                   {0, []byte{0x10, 6, 0, 4, 'H', 'T', 'T', 'P'}, codeProtocolError},
		"a CONNECT of MQTT 3.1":                           {0, []byte{0x10, 13, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 2, 0, 60, 0}, codeUnsupportedLevel},
		"a CONNECT of a version to come":                  {0, []byte{0x10, 7, 0, 4, 'M', 'Q', 'T', 'T', 6}, codeUnsupportedLevel},
		"a property twice":                                {0, connect5(packets.PropReceiveMaximum, 0, 1, packets.PropReceiveMaximum, 0, 1), codeProtocolError},
		"receive maximum 0":                               {0, connect5(packets.PropReceiveMaximum, 0, 0), codeProtocolError},
		"maximum packet size 0":                           {0, connect5(packets.PropMaximumPacketSize, 0, 0, 0, 0), codeProtocolError},
		"request problem information 2":                   {0, connect5(packets.PropRequestProblemInfo, 2), codeProtocolError},
		"a property that does not belong into the packet": {0, connect5(packets.PropTopicAlias, 0, 1), codeProtocolError},
		"a property that does not exist":                  {0, connect5(0xff), codeProtocolError},
		"a property that ends behind the properties":      {5, []byte{0x30, 8, 0, 1, 't', 3, packets.PropContentType, 0, 2, 'a'}, codeMalformed},
		"a property length beyond the packet":             {5, []byte{0x30, 4, 0, 1, 't', 9}, codeMalformed},
		"a property length of five bytes":                 {5, []byte{0x30, 8, 0, 1, 't', 0x80, 0x80, 0x80, 0x80, 0}, codeMalformed},
		"payload format 2":                                {5, []byte{0x30, 6, 0, 1, 't', 2, packets.PropPayloadFormat, 2}, codeProtocolError},
		"a response topic with a wildcard":                {5, []byte{0x30, 8, 0, 1, 't', 4, packets.PropResponseTopic, 0, 1, '#'}, codeTopicInvalid},
		"a subscription identifier from a client":         {5, []byte{0x30, 6, 0, 1, 't', 2, packets.PropSubscriptionIdentifier, 1}, codeProtocolError},
		"a PUBREC":                               {4, []byte{0x50, 2, 0, 1}, codeProtocolError},
		"an AUTH":                                {5, []byte{0xf0, 0}, codeProtocolError},
		"a DISCONNECT of 3.1.1 with a body":      {4, []byte{0xe0, 1, 0}, codeMalformed},
		"a DISCONNECT with bytes behind its end": {5, []byte{0xe0, 3, 0, 0, 0}, codeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tt.packet, tt.version)
			var e End
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an End", err)
			}
			want(t, "code", e.Code, tt.code)
		})
	}
}

func TestWhatTheStandardAllowsIsDecoded(t *testing.T) {
	t.Parallel()
	p, err := parse([]byte{0xe0, 1, 4}, 5)
	if err != nil || p.code != 4 {
		t.Errorf("a reason code without properties: %v, %v", p, err)
	}
	p, err = parse(mqtttest.Encode(t, mqtttest.ConnectPacket("c", func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic = true, "w" // a will without payload
		pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte("?SDK=x&Version=1 +")
		pk.Connect.PasswordFlag = true // empty
		pk.Properties.RequestProblemInfoFlag = true
		pk.Connect.WillProperties.MessageExpiryInterval = 1 << 30
	}), 5), 0)
	if err != nil {
		t.Fatal(err)
	}
	c := p.connect
	if c.clientID != "c" || c.will.Topic != "w" || c.username != "?SDK=x&Version=1 +" || !c.noProblems || c.willLife != maxMessageLife {
		t.Errorf("%+v", c)
	}
	p, err = parse([]byte{0x30, 9, 0, 1, 't', 5, packets.PropMessageExpiryInterval, 0, 0, 0, 0}, 5)
	if err != nil || p.life.Seconds() != 1 {
		t.Errorf("message expiry interval 0 is 1: %v, %v", p, err)
	}
}

// Whatever we accept the library decodes to the same; and nothing makes us panic.
func FuzzDecode(f *testing.F) {
	for _, pk := range []packets.Packet{
		mqtttest.ConnectPacket("c"),
		{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 1, TopicName: "a/b", Payload: []byte("x"),
			Properties: packets.Properties{ContentType: "t", User: []packets.UserProperty{{Key: "k", Val: "v"}}, MessageExpiryInterval: 5}},
		{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a/#", Qos: 1, NoLocal: true}}},
		{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "a/#"}}},
		{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}},
	} {
		for _, v := range []byte{4, 5} {
			f.Add(mqtttest.Encode(f, pk, v), v)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, version byte) {
		p, err := parse(b, version)
		if err != nil {
			var e End
			if !errors.As(err, &e) && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatalf("error %v", err)
			}
			return
		}
		compare(t, p, b, version)
	})
}

// compare checks p against what the library makes of the same bytes.
func compare(t *testing.T, p *packet, b []byte, version byte) {
	var head [2]byte
	r := bytes.NewReader(b)
	first, n, _ := readHeader(r, &head)
	body := make([]byte, n)
	io.ReadFull(r, body)
	pk := packets.Packet{ProtocolVersion: version}
	if err := pk.FixedHeader.Decode(first); err != nil {
		t.Fatalf("header: the library says %v", err)
	}
	pk.FixedHeader.Remaining = n
	var err error
	same := true
	switch p.kind {
	case packets.Connect:
		err = pk.ConnectDecode(body)
		c := p.connect
		same = c.clientID == pk.Connect.ClientIdentifier && c.version == pk.ProtocolVersion && c.clean == pk.Connect.Clean &&
			(c.will != nil) == pk.Connect.WillFlag && c.username == string(pk.Connect.Username) &&
			(c.will == nil || c.will.Topic == pk.Connect.WillTopic && string(c.will.Payload) == string(pk.Connect.WillPayload))
	case packets.Publish:
		err = pk.PublishDecode(body)
		same = p.message.Topic == pk.TopicName && string(p.message.Payload) == string(pk.Payload) && p.id == pk.PacketID && p.alias == pk.Properties.TopicAlias
		if m := p.message.Props; m != nil {
			same = same && m.ContentType == pk.Properties.ContentType && m.ResponseTopic == pk.Properties.ResponseTopic && len(m.User) == len(pk.Properties.User)
		}
	case packets.Puback:
		err = pk.PubackDecode(body)
		same = p.id == pk.PacketID
	case packets.Subscribe:
		err = pk.SubscribeDecode(body)
		same = p.id == pk.PacketID && len(p.filters) == len(pk.Filters)
		for i := range p.filters {
			same = same && p.filters[i].filter == pk.Filters[i].Filter && p.filters[i].qos == pk.Filters[i].Qos
		}
	case packets.Unsubscribe:
		err = pk.UnsubscribeDecode(body)
		same = p.id == pk.PacketID && len(p.filters) == len(pk.Filters)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	if err != nil || !same {
		t.Fatalf("we: %+v, library: %+v, %v", p, pk, err)
	}
}

// The tree finds what matching one filter after the other finds.
func FuzzTree(f *testing.F) {
	f.Add("a/b", "a/+", "#", "a/#")
	f.Add("$aws/x", "#", "$aws/#", "+/x")
	f.Add("a", "a/#", "a", "+")
	f.Add("a//b", "a/+/b", "a//b", "+/+/+")
	f.Fuzz(func(t *testing.T, topic, f1, f2, f3 string) {
		if fleet.CheckTopic(topic) != nil {
			return
		}
		var tr tree
		tr.init(nil)
		wanted := map[*session]bool{}
		var subs []*subscription
		for _, filter := range []string{f1, f2, f3, f1} {
			if _, _, err := checkFilter(filter); err != nil || len(filter) > 6 && filter[:7] == "$share/" {
				continue
			}
			s := &subscription{session: &session{}, filter: filter}
			subs = append(subs, s)
			tr.add(s)
			if fleet.TopicMatches(filter, topic) {
				wanted[s.session] = true
			}
		}
		h := tr.match(topic, nil)
		if len(h.list) != len(wanted) {
			t.Fatalf("topic %q: %d hits, want %d of %q %q %q", topic, len(h.list), len(wanted), f1, f2, f3)
		}
		for _, hit := range h.list {
			if !wanted[hit.session] {
				t.Fatalf("topic %q: a wrong hit", topic)
			}
		}
		h.free()
		for _, s := range subs {
			tr.remove(s)
		}
		if len(tr.exact) != 0 || len(tr.root.children) != 0 {
			t.Fatal("the empty tree is not empty")
		}
	})
}
