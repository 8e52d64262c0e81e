package power

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/imprint-iot/imprint/internal/server"
)

// How many messages are published while the recording runs, and on how many topics they are retained.
const (
	messages       = 60
	retainedTopics = 5
)

// Clients with a persistent session, by what they do with messages.
const (
	away     = "listener-away" // is not connected
	here     = "listener-here" // is connected, and acknowledges every other message
	teamMate = "listener-team" // is not connected, and shares a subscription
)

const team = "$share/team/news/#"

// A mailbox collects what a client with a persistent session receives.
type mailbox struct {
	mqtt.Client
	present bool // the session went on
	got     chan mqtt.Message
}

// openMailbox connects with a session that is kept.
func openMailbox(env server.Env, id identity, clientID string) (*mailbox, error) {
	box := &mailbox{got: make(chan mqtt.Message, 10*messages)}
	var token *mqtt.ConnectToken
	c, err := connectWith(env, id, clientID, func(o *mqtt.ClientOptions) {
		o.SetCleanSession(false).SetAutoAckDisabled(true).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { box.got <- m })
	}, &token)
	box.Client = c
	box.present = err == nil && token.SessionPresent()
	return box, err
}

// talk has messages published at QoS 1 and retained while some listen and others are away. mark is told of each PUBACK, and of
// each message before its receiver acknowledges it.
func (p *people) talk(ctx context.Context, id identity, mark func(string) error) error {
	for client, filter := range map[string]string{away: "news/#", teamMate: team} {
		box, err := openMailbox(p.env, id, client)
		if err != nil {
			return err
		}
		if err := wait(box.Subscribe(filter, 1, nil)); err != nil {
			return err
		}
		box.Disconnect(100)
	}
	live, err := openMailbox(p.env, id, here)
	if err != nil {
		return err
	}
	defer live.Disconnect(0)
	if err := wait(live.Subscribe("news/#", 1, nil)); err != nil {
		return err
	}
	if err := mark("listening"); err != nil {
		return err
	}
	pub, err := connect(p.env, id, "talker")
	if err != nil {
		return err
	}
	defer pub.Disconnect(100)
	for n := range messages {
		text := strconv.Itoa(n)
		if err := wait(pub.Publish("news/"+text, 1, false, text)); err != nil {
			return err
		}
		if err := mark("published " + text); err != nil {
			return err
		}
		if err := wait(pub.Publish("state/"+strconv.Itoa(n%retainedTopics), 1, true, text)); err != nil {
			return err
		}
		if err := mark("retained " + text); err != nil {
			return err
		}
		select {
		case m := <-live.got:
			if n%2 == 0 {
				if err := mark("took " + string(m.Payload())); err != nil {
					return err
				}
				m.Ack()
			}
		case <-time.After(answerTimeout):
			return fmt.Errorf("message %d did not arrive", n)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// checkMessages lets those who listened come back: each must get everything that was answered by a PUBACK before the cut and that
// they have not acknowledged.
func (p *people) checkMessages(s *site, id identity, rec *recording, cut int) error {
	if !rec.seen("listening", cut) {
		return nil
	}
	boxes := map[string]*mailbox{}
	for _, client := range []string{away, here, teamMate} {
		box, err := openMailbox(s.env, id, client)
		if err != nil {
			return err
		}
		defer box.Disconnect(0)
		if !box.present {
			return fmt.Errorf("the session of %s is lost", client)
		}
		boxes[client] = box
	}
	pub, err := connect(s.env, id, "talker")
	if err != nil {
		return err
	}
	defer pub.Disconnect(100)
	if err := wait(pub.Publish("news/end", 1, false, "end")); err != nil {
		return err
	}
	for client, box := range boxes {
		got, err := box.untilEnd()
		if err != nil {
			return fmt.Errorf("%s: %w", client, err)
		}
		for n := range messages {
			text := strconv.Itoa(n)
			if !rec.seen("published "+text, cut) || client == here && rec.seen("took "+text, cut) {
				continue
			}
			if !got[text] {
				return fmt.Errorf("message %d was acknowledged to its publisher, and %s did not get it", n, client)
			}
			p.delivered++
		}
	}
	return checkRetained(pub, rec, cut)
}

// untilEnd returns the payloads that come before the last message.
func (b *mailbox) untilEnd() (map[string]bool, error) {
	got := map[string]bool{}
	for {
		select {
		case m := <-b.got:
			m.Ack()
			if string(m.Payload()) == "end" {
				return got, nil
			}
			got[string(m.Payload())] = true
		case <-time.After(answerTimeout):
			return got, fmt.Errorf("subscribed to news, and no news comes")
		}
	}
}

// checkRetained looks for the last retained message of each topic that was answered: it or a later one must be there.
func checkRetained(c mqtt.Client, rec *recording, cut int) error {
	for topic := range retainedTopics {
		least := -1
		for n := topic; n < messages && rec.seen("retained "+strconv.Itoa(n), cut); n += retainedTopics {
			least = n
		}
		if least < 0 {
			continue
		}
		got := make(chan string, 1)
		if err := wait(c.Subscribe("state/"+strconv.Itoa(topic), 1, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) })); err != nil {
			return err
		}
		select {
		case text := <-got:
			if n, err := strconv.Atoi(text); err != nil || n < least {
				return fmt.Errorf("state/%d is %q, and %d was retained before the cut", topic, text, least)
			}
		case <-time.After(answerTimeout):
			return fmt.Errorf("nothing is retained on state/%d, where %d was", topic, least)
		}
	}
	return nil
}

// behind returns the moments right behind the marks that begin so.
func (r *recording) behind(prefix string) (cuts []int) {
	for what, at := range r.marks {
		if strings.HasPrefix(what, prefix) {
			cuts = append(cuts, at+1)
		}
	}
	return cuts
}
