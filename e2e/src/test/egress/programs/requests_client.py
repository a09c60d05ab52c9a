# Python with requests, a line for each URL.
import sys

import requests

for url in sys.argv[1:]:
    try:
        answer = requests.get(url, timeout=10)
        said = f"{answer.status_code} {answer.text}"
    except requests.RequestException as error:
        said = str(error)
    print(url, " ".join(said.split()))
