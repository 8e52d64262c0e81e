package iot

import (
	"context"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/wire"
)

// A Logger keeps what accounts want to have logged of devices and rules; *logs.Service is the one. It checks iam:PassRole for the role.
type Logger interface {
	Options(ctx context.Context) (fleet.LoggingOptions, error)
	SetOptions(ctx context.Context, change logs.OptionsChange) error
}

func (a *API) loggingRows() []wire.Row {
	return []wire.Row{
		wire.Do("GetV2LoggingOptions", a.getLoggingOptions),
		wire.Do("SetV2LoggingOptions", a.setLoggingOptions),
	}
}

// getLoggingOptions answers the types of events that were configured or, if that is asked for, all that can be.
func (a *API) getLoggingOptions(ctx context.Context, in *GetV2LoggingOptionsInput) (*GetV2LoggingOptionsOutput, error) {
	o, err := a.Logs.Options(ctx)
	if err != nil {
		return nil, err
	}
	level := o.Level
	if level == "" {
		level = fleet.LogLevels[logs.Disabled]
	}
	out := &GetV2LoggingOptionsOutput{RoleArn: &o.Role, DefaultLogLevel: &level, DisableAllLogs: &o.Off}
	for _, e := range o.Events {
		out.EventConfigurations = append(out.EventConfigurations, LogEventConfiguration{EventType: e.Type, LogLevel: wire.Optional(e.Level), LogDestination: wire.Optional(e.Group)})
	}
	if wire.Value(in.Verbose) {
		for _, kind := range logs.EventTypes {
			if !slices.ContainsFunc(o.Events, func(e fleet.LogEventOptions) bool { return e.Type == kind }) {
				out.EventConfigurations = append(out.EventConfigurations, LogEventConfiguration{EventType: kind, LogLevel: &level, LogDestination: new(logs.IoTGroup)})
			}
		}
	}
	return out, nil
}

func (a *API) setLoggingOptions(ctx context.Context, in *SetV2LoggingOptionsInput) (*SetV2LoggingOptionsOutput, error) {
	change := logs.OptionsChange{Role: in.RoleArn, Level: in.DefaultLogLevel, Off: in.DisableAllLogs}
	if in.EventConfigurations != nil {
		change.Events = []fleet.LogEventOptions{}
	}
	for _, e := range in.EventConfigurations {
		change.Events = append(change.Events, fleet.LogEventOptions{Type: e.EventType, Level: wire.Value(e.LogLevel), Group: wire.Value(e.LogDestination)})
	}
	return nil, a.Logs.SetOptions(ctx, change)
}
