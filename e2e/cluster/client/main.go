// Command client asks for URLs as programs in Go do: by net/http, which looks for a proxy in the environment. It prints a line for
// each: the URL, then the status and the body, or the error.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func ask(url string) string {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", response.StatusCode, body)
}

func main() {
	for _, url := range os.Args[1:] {
		fmt.Println(url, strings.ReplaceAll(ask(url), "\n", " "))
	}
}
