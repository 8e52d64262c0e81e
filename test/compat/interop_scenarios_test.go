package compat

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What AWS's rules say otherwise than the standards is marked with the section of the iot-core specification.
var scenarios = []scenario{
	{"publish and subscribe at QoS 0 and 1", v3and5, 0, func(p *play) {
		a, topic := p.joins("a"), p.topic("t")
		a.asks(1, ask{Filter: topic, QoS: 1})
		for qos := range byte(2) {
			a.sends(letter{Topic: topic, Payload: fmt.Sprint("QoS ", qos), QoS: qos})
			if l := a.hears(topic, fmt.Sprint("QoS ", qos)); l.QoS != qos || l.Retain {
				p.Errorf("heard %+v", l)
			}
		}
		a.asks(0, ask{Filter: topic, QoS: 0})
		a.sends(letter{Topic: topic, Payload: "lowered", QoS: 1})
		if l := a.hears(topic, "lowered"); l.QoS != 0 {
			p.Errorf("heard at QoS %d", l.QoS)
		}
	}},
	{"a large message, many in their order", v3and5, 0, func(p *play) {
		a, topic := p.joins("a"), p.topic("t")
		a.subscribes(topic)
		large := strings.Repeat("x", 128<<10)
		a.sends(letter{Topic: topic, Payload: large, QoS: 1})
		a.hears(topic, large)
		for i := range 20 {
			a.sends(letter{Topic: topic, Payload: fmt.Sprint(i), QoS: 1})
		}
		for i := range 20 {
			a.hears(topic, fmt.Sprint(i))
		}
	}},
	{"QoS 2 is granted as 1", v3and5, asksQoS2, func(p *play) {
		p.joins("a").asks(1, ask{Filter: p.topic("t"), QoS: 2}) // section 6.8
	}},
	{"a publish at QoS 2 ends the connection", v3and5, qos2, func(p *play) {
		a := p.joins("a") // section 6.7
		if _, err := a.publish(letter{Topic: p.topic("t"), QoS: 2}); err != nil {
			p.Log(err)
		}
		a.loses(0x9b)
	}},
	{"retained messages", v3and5, 0, func(p *play) {
		a, one, two := p.joins("a"), p.topic("kept"), p.topic("kept too")
		a.subscribes(one)
		a.sends(letter{Topic: one, Payload: "first", QoS: 1, Retain: true})
		a.sends(letter{Topic: one, Payload: "second", QoS: 1, Retain: true})
		a.sends(letter{Topic: two, Payload: "QoS 0", Retain: true})
		a.sends(letter{Topic: one, Payload: "fleeting", QoS: 1})
		for _, payload := range []string{"first", "second", "fleeting"} {
			if l := a.hears(one, payload); l.Retain {
				p.Errorf("%s came live with RETAIN", payload)
			}
		}
		b := p.joins("b")
		b.subscribes(one)
		if l := b.hears(one, "second"); !l.Retain || l.QoS != 1 {
			p.Errorf("heard %+v", l)
		}
		b.subscribes(two)
		if l := b.hears(two, "QoS 0"); !l.Retain || l.QoS != 0 {
			p.Errorf("heard %+v", l)
		}
		a.sends(letter{Topic: one, Retain: true, QoS: 1})
		b.hears(one, "")
		c := p.joins("c")
		c.subscribes(one, p.topic("+")) // section 6.8: none for filters with wildcards
		a.sends(letter{Topic: two, Payload: "live", QoS: 1})
		c.hears(two, "live")
		a.sends(letter{Topic: two, Retain: true, QoS: 1})
	}},
	{"will", v3and5, cuts, func(p *play) {
		topic := p.topic("will")
		a := p.joins("a", func(j *join) { j.Will = &letter{Topic: topic, Payload: "gone", QoS: 1} })
		b := p.joins("b")
		b.subscribes(topic)
		a.cuts()
		if l := b.hears(topic, "gone"); l.QoS != 1 || l.Retain {
			p.Errorf("heard %+v", l)
		}
		a.joins(func(j *join) { j.Will = &letter{Topic: topic, Payload: "gone again", QoS: 1} })
		a.leaves()
		a.joins() // whatever the first connection had to say was said
		b.sends(letter{Topic: topic, Payload: "end", QoS: 1})
		b.hears(topic, "end")
	}},
	{"a retained will", v3and5, cuts, func(p *play) {
		topic := p.topic("will")
		a, b := p.joins("a", func(j *join) { j.Will = &letter{Topic: topic, Payload: "gone", Retain: true} }), p.joins("b")
		b.subscribes(topic)
		a.cuts()
		b.hears(topic, "gone")
		c := p.joins("c")
		c.subscribes(topic)
		if l := c.hears(topic, "gone"); !l.Retain {
			p.Error("came without RETAIN")
		}
		c.sends(letter{Topic: topic, Retain: true, QoS: 1})
	}},
	{"empty client id", v3and5, nameless, func(p *play) {
		a, b := p.actor("a"), p.actor("b")
		nameless := func(j *join) { j.ClientID = "" }
		one, two := a.joins(nameless), b.joins(nameless)
		if p.v == 5 && (one.AssignedID == "" || one.AssignedID == two.AssignedID) {
			p.Errorf("assigned %q and %q", one.AssignedID, two.AssignedID)
		}
		a.subscribes(p.topic("t"))
		b.sends(letter{Topic: p.topic("t"), Payload: "still there", QoS: 1})
		a.hears(p.topic("t"), "still there")
		if _, err := p.actor("c").join(nameless, keep); p.v == 4 && err == nil {
			p.Error("a session without a name was kept")
		}
	}},
	{"messages wait for a client that is away", v3and5, 0, func(p *play) {
		a, b := p.actor("a"), p.joins("b")
		if a.joins(keep).SessionPresent {
			p.Error("a new session is present")
		}
		a.asks(1, ask{Filter: p.topic("+"), QoS: 1})
		a.leaves()
		for i := range 12 {
			b.sends(letter{Topic: p.topic("one"), Payload: fmt.Sprint(i), QoS: 1})
			b.sends(letter{Topic: p.topic("lost"), Payload: fmt.Sprint(i)}) // QoS 0 is not kept
		}
		if !a.joins(keep).SessionPresent {
			p.Fatal("the session is not present")
		}
		for i := range 12 {
			a.hears(p.topic("one"), fmt.Sprint(i))
		}
		b.sends(letter{Topic: p.topic("two"), Payload: "live", QoS: 1})
		a.hears(p.topic("two"), "live")
		a.leaves()
		if a.joins().SessionPresent {
			p.Error("a clean start has the old session present")
		}
		b.sends(letter{Topic: p.topic("one"), Payload: "nobody", QoS: 1})
		a.subscribes(p.topic("end"))
		b.sends(letter{Topic: p.topic("end"), QoS: 1})
		a.hears(p.topic("end"), "")
	}},
	{"redelivery on reconnect", v3and5, cuts, func(p *play) {
		a, b, topic := p.actor("a"), p.joins("b"), p.topic("t")
		a.joins(keep, func(j *join) { j.Hold = true })
		a.subscribes(topic)
		b.sends(letter{Topic: topic, Payload: "unacknowledged", QoS: 1})
		a.hears(topic, "unacknowledged")
		a.cuts()
		a.joins(keep)
		a.hears(topic, "unacknowledged")
		b.sends(letter{Topic: topic, Payload: "end", QoS: 1})
		a.hears(topic, "end") // and not once more
	}},
	{"overlapping subscriptions", v3and5, 0, func(p *play) {
		a := p.joins("a")
		a.asks(0, ask{Filter: p.topic("+"), QoS: 0})
		a.asks(1, ask{Filter: p.topic("#"), QoS: 1})
		a.asks(0, ask{Filter: p.topic("t"), QoS: 0})
		a.sends(letter{Topic: p.topic("t"), Payload: "once", QoS: 1})
		if l := a.hears(p.topic("t"), "once"); l.QoS != 1 {
			p.Errorf("heard at QoS %d, not at the highest", l.QoS)
		}
		a.sends(letter{Topic: p.topic("a/b"), Payload: "end", QoS: 1})
		a.hears(p.topic("a/b"), "end")
	}},
	{"wildcards", v3and5, 0, func(p *play) {
		a := p.joins("a")
		a.subscribes(p.topic("s/#"), p.topic("+/state"))
		for _, topic := range []string{"s", "s/one", "s/one/two", "lamp/state", "lamp/state/x"} { // section 6.8: s/# is not s
			a.sends(letter{Topic: p.topic(topic), Payload: topic, QoS: 1})
		}
		for _, topic := range []string{"s/one", "s/one/two", "lamp/state"} {
			a.hears(p.topic(topic), topic)
		}
		a.sends(letter{Topic: p.topic("s/"), Payload: "end", QoS: 1})
		a.hears(p.topic("s/"), "end")
	}},
	{"unsubscribe", v3and5, 0, func(p *play) {
		a := p.joins("a")
		a.subscribes(p.topic("a"), p.topic("b"), p.topic("c"))
		check(p.T, a.unsubscribe(p.topic("b")))
		check(p.T, a.unsubscribe(p.topic("never subscribed")))
		for _, topic := range []string{"b", "c", "b", "a"} {
			a.sends(letter{Topic: p.topic(topic), Payload: topic, QoS: 1})
		}
		a.hears(p.topic("c"), "c")
		a.hears(p.topic("a"), "a")
	}},
	{"a subscription that is not allowed", v3and5, 0, func(p *play) {
		a, topic := p.joins("a"), "forbidden/"+p.prefix
		if p.v == 4 { // section 5.9: told, then closed
			a.asks(0x80, ask{Filter: topic, QoS: 1})
			a.loses(0)
			return
		}
		a.asks(0x87, ask{Filter: topic, QoS: 1})
		a.subscribes(p.topic("t"))
		a.sends(letter{Topic: p.topic("t"), Payload: "still there", QoS: 1})
		a.hears(p.topic("t"), "still there")
	}},
	{"a publish that is not allowed", v3and5, codes, func(p *play) {
		a, topic := p.joins("a"), "forbidden/"+p.prefix
		code, err := a.publish(letter{Topic: topic, QoS: 1})
		if p.v == 4 { // section 5.9
			p.Log(err)
			a.loses(0)
			return
		}
		if err != nil || code != 0x87 {
			p.Errorf("PUBACK %d, %v", code, err)
		}
		if _, err = a.publish(letter{Topic: topic}); err != nil {
			p.Log(err)
		}
		a.loses(0x87)
	}},
	{"$ topics", v3and5, 0, func(p *play) {
		a, b := p.joins("a"), p.actor("b")
		a.subscribes("+/events/presence/connected/"+b.id, "#")
		a.subscribes("$aws/events/presence/connected/" + b.id)
		b.joins()
		for { // # hears the other scenarios as well
			if l := a.next(); l.Topic == "$aws/events/presence/connected/"+b.id {
				break
			} else if strings.HasPrefix(l.Topic, "$") {
				p.Fatalf("heard %s", l.Topic)
			}
		}
		if _, err := b.publish(letter{Topic: "$" + p.topic("t")}); err != nil { // section 6.7: such a publish ends the connection
			p.Log(err)
		}
		b.loses(0x90)
	}},
	{"whoever comes later takes over the client id", v3and5, 0, func(p *play) {
		b := p.joins("b")
		b.subscribes(p.topic("will"))
		var all []*actor
		for i := range 12 {
			a := p.actor(fmt.Sprint("a", i))
			a.id = p.prefix + "-a"
			a.joins(func(j *join) { j.Will = &letter{Topic: p.topic("will"), Payload: fmt.Sprint(i), QoS: 1} })
			all = append(all, a)
		}
		for i, a := range all[:11] {
			a.loses(0x8e)
			b.hears(p.topic("will"), fmt.Sprint(i))
		}
		last := all[11]
		last.subscribes(p.topic("t"))
		b.sends(letter{Topic: p.topic("t"), Payload: "the last is there", QoS: 1})
		last.hears(p.topic("t"), "the last is there")
	}},
	{"two that want the same client id and connect again and again", v3and5, reconnects, func(p *play) {
		watch := p.joins("watch")
		one, two, topic := p.actor("one"), p.actor("two"), p.topic("t")
		two.id = one.id
		watch.subscribes("$aws/events/presence/disconnected/" + one.id)
		again := func(j *join) { j.Reconnect = true }
		one.joins(keep, again)
		one.subscribes(topic)
		for try := 0; ; try++ { // the other may be back before this one is accepted, and only then do the libraries try again
			if _, err := two.join(keep, again); err == nil {
				break
			} else if try == 50 {
				p.Fatal(err)
			}
		}
		const n = 4
		for i := range n {
			l := watch.next()
			if !strings.Contains(l.Payload, `"DUPLICATE_CLIENTID"`) {
				p.Fatalf("disconnected: %s", l.Payload)
			}
			watch.sends(letter{Topic: topic, Payload: fmt.Sprint(i), QoS: 1})
		}
		check(p.T, two.disconnect(nil)) // which the other may have cut off
		watch.sends(letter{Topic: topic, Payload: "end", QoS: 1})
		for want := map[string]bool{"0": true, "1": true, "2": true, "3": true, "end": true}; len(want) > 0; { // either may have heard it
			select {
			case l := <-one.post.mail:
				delete(want, l.Payload)
			case l := <-two.post.mail:
				delete(want, l.Payload)
			case <-time.After(answerTimeout):
				p.Fatalf("nobody heard %v", want)
			}
		}
	}},
	{"on the HTTPS port by ALPN", v3and5, 0, func(p *play) {
		a := p.joins("a", func(j *join) { j.ALPN = true })
		a.subscribes(p.topic("t"))
		a.sends(letter{Topic: p.topic("t"), Payload: "there", QoS: 1})
		a.hears(p.topic("t"), "there")
	}},
	{"by address, without a server name", v3and5, 0, func(p *play) { // section 6.3
		a := p.joins("a", func(j *join) { j.Host = "127.0.0.1" })
		a.subscribes(p.topic("t"))
		a.sends(letter{Topic: p.topic("t"), Payload: "there", QoS: 1})
		a.hears(p.topic("t"), "there")
	}},
	{"a foreign server name is refused", v3and5, serverNames, func(p *play) { // section 6.3
		for _, alpn := range []bool{false, true} {
			_, err := p.actor("a").join(func(j *join) { j.ServerName, j.ALPN = "somebody.else.example", alpn })
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") && !strings.Contains(err.Error(), "UNRECOGNIZED_NAME") {
				p.Errorf("ALPN %v: %v", alpn, err)
			}
		}
	}},
	{"shared subscriptions", v3and5, 0, func(p *play) {
		a, b, c, d := p.joins("a"), p.joins("b"), p.joins("c"), p.joins("d")
		share := "$share/" + p.prefix + "/" + p.topic("+")
		a.subscribes(share)
		b.subscribes(share)
		c.subscribes("$share/other/" + p.topic("+"))
		const n = 40
		for i := range n {
			d.sends(letter{Topic: p.topic("t"), Payload: fmt.Sprint(i), QoS: 1})
		}
		seen := map[string]int{}
		for range n {
			select {
			case l := <-a.post.mail:
				seen[l.Payload]++
			case l := <-b.post.mail:
				seen[l.Payload]++
			case <-time.After(answerTimeout):
				p.Fatalf("heard %d of %d", len(seen), n)
			}
		}
		for i := range n {
			c.hears(p.topic("t"), fmt.Sprint(i))
			if seen[fmt.Sprint(i)] != 1 {
				p.Errorf("%d came %d times", i, seen[fmt.Sprint(i)])
			}
		}
		a.leaves() // and the other gets all, also what the library of the first had not acknowledged yet
		d.sends(letter{Topic: p.topic("t"), Payload: "end", QoS: 1})
		for l := (letter{}); l.Payload != "end"; {
			select {
			case l = <-b.post.mail:
			case <-time.After(answerTimeout):
				p.Fatalf("the member that stayed did not hear the end")
			}
		}
	}},

	{"what the server offers", v5, 0, func(p *play) {
		w := p.actor("a").joins()
		if w.ReceiveMax != 100 || w.MaxPacketSize != 149504 || w.AliasMax != 8 || w.KeepAlive != 60 || w.AssignedID != "" {
			p.Errorf("CONNACK %+v", w)
		}
	}},
	{"server keep alive", v5, 0, func(p *play) { // section 6.5
		for asked, granted := range map[uint16]uint16{5: 30, 30: 30, 1200: 1200, 5000: 1200} {
			if got := p.actor(fmt.Sprint("a", asked)).joins(func(j *join) { j.KeepAlive = asked }).KeepAlive; got != granted {
				p.Errorf("asked for %d s: %d", asked, got)
			}
		}
	}},
	{"no keep-alive is the longest", v5, noKeepAlive, func(p *play) {
		if got := p.actor("a").joins(func(j *join) { j.KeepAlive = 0 }).KeepAlive; got != 1200 {
			p.Errorf("server keep alive %d", got)
		}
	}},
	{"session expiry", v5, 0, func(p *play) {
		a := p.actor("a")
		present := func(w welcome, want bool) {
			p.Helper()
			if w.SessionPresent != want {
				p.Errorf("session present: %v", !want)
			}
		}
		present(a.joins(keepFor(0)), false)
		a.leaves()
		present(a.joins(keepFor(0)), false) // ended with its connection
		a.leaves()
		w := a.joins(keepFor(1 << 31)) // section 6.6: more than the account's hour is not granted
		if present(w, false); w.Expiry == nil || *w.Expiry != 3600 {
			p.Errorf("expiry %v", w.Expiry)
		}
		a.leaves()
		present(a.joins(keepFor(100)), true)
		zero, one := uint32(0), uint32(1)
		a.leaves(&zero)
		present(a.joins(keepFor(100)), false)
		a.leaves(&one)
		b, hour := p.actor("b"), uint32(3600)
		present(b.joins(keepFor(1)), false)
		b.leaves(&hour)
		p.lapse(5 * time.Second) // a second, and what the server's clock, which counts seconds, may be late
		present(a.joins(keepFor(100)), false)
		present(b.joins(keepFor(100)), true)
	}},
	{"receive maximum", v5, holds, func(p *play) {
		a, b, topic := p.actor("a"), p.joins("b"), p.topic("t")
		a.joins(func(j *join) { j.Hold, j.ReceiveMax = true, 2 })
		a.subscribes(topic)
		for i := range 5 {
			b.sends(letter{Topic: topic, Payload: fmt.Sprint(i), QoS: 1})
		}
		for i := range 5 {
			a.hears(topic, fmt.Sprint(i))
			if i == 0 {
				continue // the second may come as well
			}
			b.sends(letter{Topic: p.topic("other"), QoS: 1}) // a round trip in which a third would have come
			if len(a.post.mail) > 0 {
				p.Fatalf("%d messages are unacknowledged", 3)
			}
			check(p.T, a.party.(*paho5).acknowledge())
		}
	}},
	{"maximum packet size", v5, 0, func(p *play) {
		a, b, topic := p.actor("a"), p.joins("b"), p.topic("t")
		a.joins(func(j *join) { j.MaxPacketSize = 200 })
		a.subscribes(topic)
		b.sends(letter{Topic: topic, Payload: strings.Repeat("x", 200), QoS: 1}) // more than the client takes: dropped
		b.sends(letter{Topic: topic, Payload: strings.Repeat("y", 100), QoS: 1})
		a.hears(topic, strings.Repeat("y", 100))
	}},
	{"a message of more than 128 KiB ends the connection", v5, 0, func(p *play) {
		a := p.joins("a")
		if _, err := a.publish(letter{Topic: p.topic("t"), Payload: strings.Repeat("x", 128<<10+1)}); err != nil {
			p.Log(err)
		}
		a.loses(0x95)
	}},
	{"properties of messages", v5, pairs, func(p *play) {
		a, topic, one := p.joins("a"), p.topic("t"), byte(1)
		a.subscribes(topic)
		sent := letter{Topic: topic, Payload: "ü", QoS: 1, Format: &one, ContentType: "text/plain", Response: p.topic("answers"), Correlation: "4711",
			User: [][2]string{{"a", "2"}, {"c", "3"}, {"a", "1"}}}
		a.sends(sent)
		got := a.hears(topic, "ü")
		if or0(got.Format) != 1 || got.ContentType != sent.ContentType || got.Response != sent.Response || got.Correlation != sent.Correlation || !slices.Equal(got.User, sent.User) {
			p.Errorf("heard %+v", got)
		}
	}},
	{"properties of retained messages and wills", v5, willProperties | cuts, func(p *play) {
		topic, one := p.topic("t"), byte(1)
		said := letter{Topic: topic, Payload: "gone", QoS: 1, Retain: true, Format: &one, ContentType: "text/plain", User: [][2]string{{"a", "2"}, {"c", "3"}}}
		a, b := p.joins("a", func(j *join) { j.Will = &said }), p.joins("b")
		b.subscribes(topic)
		a.cuts()
		b.hears(topic, "gone")
		b.subscribes(topic)
		got := b.hears(topic, "gone")
		if !got.Retain || or0(got.Format) != 1 || got.ContentType != said.ContentType || !slices.Equal(got.User, said.User) {
			p.Errorf("heard %+v", got)
		}
		b.sends(letter{Topic: topic, Retain: true, QoS: 1})
	}},
	{"request and response", v5, 0, func(p *play) {
		client, server, topic := p.joins("client"), p.joins("server"), p.topic("requests")
		server.subscribes(topic)
		client.subscribes(p.topic("answers"))
		client.sends(letter{Topic: topic, Payload: "how much?", QoS: 1, Response: p.topic("answers"), Correlation: "1"})
		got := server.hears(topic, "how much?")
		server.sends(letter{Topic: got.Response, Payload: "42", QoS: 1, Correlation: got.Correlation})
		if l := client.hears(p.topic("answers"), "42"); l.Correlation != "1" {
			p.Errorf("heard %+v", l)
		}
	}},
	{"message expiry", v5, 0, func(p *play) {
		a, b, topic := p.actor("a"), p.joins("b"), p.topic("t")
		a.joins(keep)
		a.subscribes(topic)
		a.leaves()
		short, long := uint32(1), uint32(1000)
		b.sends(letter{Topic: topic, Payload: "short-lived", QoS: 1, Expiry: &short})
		b.sends(letter{Topic: topic, Payload: "long-lived", QoS: 1, Expiry: &long})
		b.sends(letter{Topic: p.topic("kept"), Payload: "short-lived", QoS: 1, Retain: true, Expiry: &short})
		b.sends(letter{Topic: p.topic("kept too"), Payload: "long-lived", QoS: 1, Retain: true, Expiry: &long})
		p.lapse(2100 * time.Millisecond)
		a.joins(keep)
		if l := a.hears(topic, "long-lived"); l.Expiry == nil || *l.Expiry >= 999 || *l.Expiry < 600 {
			p.Errorf("expiry %v", or0(l.Expiry))
		}
		a.subscribes(p.topic("kept"), p.topic("kept too"))
		if l := a.hears(p.topic("kept too"), "long-lived"); l.Expiry == nil || *l.Expiry >= 999 {
			p.Errorf("expiry %v", or0(l.Expiry))
		}
	}},
	{"topic aliases", v5, aliases, func(p *play) {
		a, topic := p.joins("a"), p.topic("t")
		a.subscribes(topic, p.topic("u"))
		a.sends(letter{Topic: topic, Payload: "named", QoS: 1, Alias: 8})
		a.sends(letter{Payload: "by alias", QoS: 1, Alias: 8})
		a.sends(letter{Topic: p.topic("u"), Payload: "renamed", QoS: 1, Alias: 8})
		a.sends(letter{Payload: "by alias", QoS: 1, Alias: 8})
		a.hears(topic, "named")
		a.hears(topic, "by alias")
		a.hears(p.topic("u"), "renamed")
		a.hears(p.topic("u"), "by alias")
	}},
	{"a topic alias that is not set ends the connection", v5, unknownAlias, func(p *play) {
		a := p.joins("a")
		a.sends(letter{Topic: p.topic("t"), QoS: 1, Alias: 8})
		a.leaves()
		a.joins() // aliases end with the connection
		if _, err := a.publish(letter{Payload: "whose?", Alias: 8}); err != nil {
			p.Log(err)
		}
		a.loses(0)
	}},
	{"no local", v5, 0, func(p *play) {
		a, b, topic := p.joins("a"), p.joins("b"), p.topic("t")
		a.asks(1, ask{Filter: topic, QoS: 1, NoLocal: true})
		b.asks(1, ask{Filter: topic, QoS: 1, NoLocal: true})
		a.sends(letter{Topic: topic, Payload: "of a", QoS: 1})
		b.sends(letter{Topic: topic, Payload: "of b", QoS: 1})
		a.hears(topic, "of b")
		b.hears(topic, "of a")
	}},
	{"retain as published, retain handling", v5, 0, func(p *play) {
		a, topic := p.joins("a"), p.topic("t")
		a.asks(1, ask{Filter: topic, QoS: 1, RetainAsPublished: true})
		a.sends(letter{Topic: topic, Payload: "fleeting", QoS: 1})
		a.sends(letter{Topic: topic, Payload: "kept", QoS: 1, Retain: true})
		if a.hears(topic, "fleeting").Retain || !a.hears(topic, "kept").Retain {
			p.Error("RETAIN is not as published")
		}
		again := func(handling byte, heard bool) {
			p.Helper()
			a.asks(1, ask{Filter: topic, QoS: 1, RetainHandling: handling})
			if heard {
				a.hears(topic, "kept")
			}
			a.sends(letter{Topic: topic, Payload: "mark", QoS: 1})
			a.hears(topic, "mark")
		}
		again(0, true)
		again(1, false)
		again(2, false)
		check(p.T, a.unsubscribe(topic))
		again(1, true)
		check(p.T, a.unsubscribe(topic))
		again(2, false)
		a.sends(letter{Topic: topic, Retain: true, QoS: 1})
	}},
	{"a subscription identifier ends the connection", v5, identifiers, func(p *play) { // section 6.8
		a := p.joins("a")
		if codes, err := a.subscribe(ask{Filter: p.topic("t"), QoS: 1, Identifier: 7}); err == nil {
			p.Errorf("SUBACK %v", codes)
		}
		a.loses(0xa1)
	}},
}
