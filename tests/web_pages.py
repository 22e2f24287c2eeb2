"""A page in a browser, and what may be asked of every page of ours."""

import contextlib


@contextlib.contextmanager
def opened(browser, path, width=390, scheme="light"):
    """Yield the loaded page of a file; whatever it complains of, or asks of a network, fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    tab = context.new_page()
    complaints, requests = [], []
    tab.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(path.as_uri())
    yield tab
    context.close()
    assert not complaints
    assert not [url for url in requests if not url.startswith((path.as_uri(), "data:"))]


def fits(tab):
    """Whether nothing has to be scrolled sideways."""
    return tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def broken_images(tab):
    """Return how many images have not loaded."""
    return tab.evaluate("[...document.images].filter(each => !each.complete || !each.naturalWidth).length")


def ground(tab):
    """Return the colour behind the text, (r, g, b)."""
    text = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    return [int(word) for word in text.removeprefix("rgb(").removesuffix(")").split(",")]
