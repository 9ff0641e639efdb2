package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Progress is what the resume file holds: of which file, and that all its rows up to and including Rows are done.
type Progress struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Rows   int    `json:"rows"`
}

// Fingerprint is the hash of the file, so that progress in one file is not taken for progress in another.
func Fingerprint(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("read the file: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// LoadProgress reads the resume file. Where there is none, or it is another file's, nothing is done yet.
func LoadProgress(path, file, sum string) (Progress, error) {
	fresh := Progress{File: filepath.Base(file), SHA256: sum}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return fresh, fmt.Errorf("read resume file: %w", err)
	}
	var p Progress
	if err := json.Unmarshal(b, &p); err != nil {
		return fresh, fmt.Errorf("resume file %s is not one of ours: remove it to start from the first row: %w", path, err)
	}
	if p.SHA256 != sum {
		return fresh, nil
	}
	return p, nil
}

// Save writes the resume file, whole or not at all.
func (p Progress) Save(path string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write resume file: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write resume file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write resume file: %w", err)
	}
	return nil
}
