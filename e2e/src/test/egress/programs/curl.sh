# curl, a line for each URL.
for url; do
  printf '%s ' "$url"
  curl --silent --show-error --max-time 10 --write-out ' %{http_code}' "$url" 2>&1 | tr '\n' ' '
  echo
done
