# Python's own library, a line for each URL.
import sys
import urllib.error
import urllib.request

for url in sys.argv[1:]:
    try:
        answer = urllib.request.urlopen(url, timeout=10)
        said = f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        said = f"{error.code} {error.read().decode()}"
    except OSError as error:
        said = str(error)
    print(url, " ".join(said.split()))
