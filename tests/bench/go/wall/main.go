// wall makes prepared requests as fast as the API server answers: the rate that no operator can beat.
//
// Each line of the file is a chain of requests that are made one after the other; chains run in parallel. Nothing is
// decoded, so what this client spends is what TLS and HTTP cost.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type request struct {
	Method      string          `json:"method"`
	Path        string          `json:"path"`
	ContentType string          `json:"contentType"`
	Body        json.RawMessage `json:"body"`
}

type report struct {
	Chains   int            `json:"chains"`
	Requests int64          `json:"requests"`
	Seconds  float64        `json:"seconds"`
	CPU      float64        `json:"cpu"`
	Codes    map[string]int `json:"codes"`
	Error    string         `json:"error,omitempty"`
}

var version = []byte(`"resourceVersion":"`)

func main() {
	server := flag.String("server", "", "https://HOST:PORT")
	authority := flag.String("ca", "", "PEM file of the server's authority")
	tokenFile := flag.String("token-file", "", "file with the bearer token")
	file := flag.String("chains", "", "file with a JSON list of requests per line")
	parallel := flag.Int("parallel", 32, "chains under way at a time")
	stampFile := flag.String("stamps", "", "write resource version and time (Unix ns) of each answer to this file")
	flag.Parse()
	debug.SetGCPercent(400)

	chains, err := read(*file)
	check(err)
	token, err := os.ReadFile(*tokenFile)
	check(err)
	client, err := connect(*authority, *parallel)
	check(err)

	worker := func(chain []request) ([]stamp, error) {
		var stamps []stamp
		for _, each := range chain {
			body, code, err := send(client, *server, string(token), each)
			if err != nil {
				return stamps, err
			}
			if code >= 300 {
				return stamps, &refused{code, string(body)}
			}
			if *stampFile != "" {
				stamps = append(stamps, stamp{resourceVersion(body), time.Now().UnixNano()})
			}
		}
		return stamps, nil
	}

	// Connections are opened before the clock starts.
	var warm sync.WaitGroup
	for range *parallel {
		warm.Go(func() { _, _, _ = send(client, *server, string(token), request{Method: "GET", Path: "/readyz"}) })
	}
	warm.Wait()

	said := report{Chains: len(chains), Codes: map[string]int{}}
	var next, requests atomic.Int64
	var lock sync.Mutex
	var all []stamp
	var group sync.WaitGroup
	began, used := time.Now(), cpu()
	for range *parallel {
		group.Go(func() {
			for {
				index := int(next.Add(1)) - 1
				if index >= len(chains) {
					return
				}
				stamps, err := worker(chains[index])
				if err == nil {
					requests.Add(int64(len(chains[index])))
				}
				if err != nil || stamps != nil {
					lock.Lock()
					all = append(all, stamps...)
					if err != nil {
						said.Codes[kind(err)]++
						said.Error = err.Error()
					}
					lock.Unlock()
				}
			}
		})
	}
	group.Wait()
	said.Seconds = time.Since(began).Seconds()
	said.CPU = cpu() - used
	said.Requests = requests.Load()
	if *stampFile != "" {
		check(write(*stampFile, all))
	}
	check(json.NewEncoder(os.Stdout).Encode(said))
}

// cpu is how many seconds of processor time this process has used.
func cpu() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

type stamp struct {
	version string
	at      int64
}

type refused struct {
	code int
	body string
}

func (r *refused) Error() string { return fmt.Sprintf("%d: %.300s", r.code, r.body) }

func kind(err error) string {
	if r, ok := err.(*refused); ok {
		return fmt.Sprint(r.code)
	}
	return "transport"
}

func read(file string) ([][]request, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	var chains [][]request
	lines := bufio.NewScanner(opened)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var chain []request
		if err := json.Unmarshal(lines.Bytes(), &chain); err != nil {
			return nil, err
		}
		chains = append(chains, chain)
	}
	return chains, lines.Err()
}

// connect uses HTTP/1.1 and a connection per worker: with HTTP/2 all would share one connection's flow control.
func connect(authority string, parallel int) (*http.Client, error) {
	pem, err := os.ReadFile(authority)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxIdleConns:        parallel,
		MaxIdleConnsPerHost: parallel,
		DisableCompression:  true,
		WriteBufferSize:     32 << 10,
		ReadBufferSize:      32 << 10,
	}
	return &http.Client{Transport: transport, Timeout: 60 * time.Second}, nil
}

func send(client *http.Client, server, token string, each request) ([]byte, int, error) {
	var body io.Reader
	if len(each.Body) > 0 {
		body = bytes.NewReader(each.Body)
	}
	made, err := http.NewRequest(each.Method, server+each.Path, body)
	if err != nil {
		return nil, 0, err
	}
	made.Header.Set("Authorization", "Bearer "+token)
	made.Header.Set("Accept", "application/json")
	if body != nil {
		made.Header.Set("Content-Type", each.ContentType)
	}
	answer, err := client.Do(made)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return content, answer.StatusCode, err
}

func resourceVersion(body []byte) string {
	_, rest, found := bytes.Cut(body, version)
	if !found {
		return ""
	}
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}

func write(file string, stamps []stamp) error {
	var text bytes.Buffer
	for _, each := range stamps {
		fmt.Fprintf(&text, "%s %d\n", each.version, each.at)
	}
	return os.WriteFile(file, text.Bytes(), 0o600)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
