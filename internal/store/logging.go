package store

import "github.com/imprint-iot/imprint/internal/fleet"

// ChangedLogging is the kind of Change of what accounts want to have logged; its key is "".
const ChangedLogging = "logging"

// LoggingOptions returns what a scope wants to have logged. It fails with KindNotFound if it was never asked.
func (tx *Tx) LoggingOptions(s fleet.Scope) (fleet.LoggingOptions, error) {
	return find(tx, "logging options", "", func(r scanner) (o fleet.LoggingOptions, err error) {
		var text string
		if err := r.Scan(&text); err != nil {
			return o, err
		}
		return o, fromJSON(text, &o)
	}, `SELECT options FROM logging_options WHERE account = ? AND region = ?`, s.Account, s.Region)
}

// AllLoggingOptions returns what each scope wants to have logged.
func (tx *Tx) AllLoggingOptions() (map[fleet.Scope]fleet.LoggingOptions, error) {
	list := map[fleet.Scope]fleet.LoggingOptions{}
	_, err := all(tx, func(r scanner) (s fleet.Scope, err error) {
		var text string
		if err := r.Scan(&s.Account, &s.Region, &text); err != nil {
			return s, err
		}
		var o fleet.LoggingOptions
		err = fromJSON(text, &o)
		list[s] = o
		return s, err
	}, `SELECT account, region, options FROM logging_options`)
	return list, err
}

// PutLoggingOptions stores what a scope wants to have logged.
func (tx *Tx) PutLoggingOptions(s fleet.Scope, o fleet.LoggingOptions) error {
	_, err := tx.exec(`INSERT INTO logging_options (account, region, options) VALUES (?, ?, ?) ON CONFLICT (account, region) DO UPDATE SET options = excluded.options`,
		s.Account, s.Region, toJSON(o))
	tx.Changed(s, ChangedLogging, "")
	return err
}
