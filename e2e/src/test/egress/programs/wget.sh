# wget, a line for each URL.
for url; do
  printf '%s ' "$url"
  wget --no-verbose --tries=1 --timeout=10 --content-on-error --ca-certificate=/opt/clients/ca.pem --output-document=- "$url" 2>&1 | tr '\n' ' '
  echo
done
