package app

import (
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/names"
)

// secrets are what the files that the settings name hold.
type secrets struct {
	keys    auth.RequestKeys
	peppers names.Peppers
	eraser  *names.Eraser
}

// readSecrets reads these files. The error says what is wrong with each.
func readSecrets(cfg config.Security) (secrets, error) {
	var s secrets
	var errs []error
	read := func(setting, path string, from func() error) {
		if path == "" {
			return
		}
		if err := from(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", setting, err))
		}
	}
	read("security.request_keys_file", cfg.RequestKeysFile, func() (err error) {
		s.keys, err = auth.ReadRequestKeys(cfg.RequestKeysFile)
		return err
	})
	read("security.peppers_file", cfg.PeppersFile, func() (err error) {
		s.peppers, err = auth.ReadPeppers(cfg.PeppersFile)
		return err
	})
	read("security.erasure_secret_file", cfg.ErasureSecretFile, func() error {
		secret, err := auth.ReadErasureSecret(cfg.ErasureSecretFile)
		if err == nil {
			s.eraser = names.NewEraser(secret)
		}
		return err
	})
	if len(errs) == 0 {
		errs = append(errs, (&Deployment{Config: config.Config{Security: cfg}, Keys: s.keys}).checkKeys())
	}
	return s, errors.Join(errs...)
}

// CheckFiles says what a process would say at its start of the files that the settings name: those that are not there, or
// not what they should be, or that others can read. It connects to nothing.
func CheckFiles(cfg config.Config) error {
	_, err := readSecrets(cfg.Security)
	errs := []error{err}
	if cfg.API.Auth != "none" && cfg.API.KeysFile != "" {
		if _, err := authenticator(Options{Config: cfg, API: true}); err != nil {
			errs = append(errs, fmt.Errorf("api.keys_file %s: %w", cfg.API.KeysFile, err))
		}
	}
	if cfg.Kafka.TLS.Enabled {
		client, err := kafka.New(KafkaConfig(cfg.Kafka), nil, nil)
		if err == nil {
			client.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
