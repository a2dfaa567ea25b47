import os
from datetime import timedelta
from pathlib import Path

OUT = Path("/tmp/d11-shots")

def go(page, url, login, ago=0):
    page.goto(url)
    page.click("[data-action=sign-in]")
    page.fill("input[name=login]", login)
    page.fill("input[name=ago]", str(ago))
    page.click("button[value=yes]")

def test_shots(kit, chromium):
    served = kit.served()
    OUT.mkdir(exist_ok=True)
    only = os.environ.get("SHOTS", "")
    for size, scheme in (((390, 844), "light"), ((1280, 800), "dark"), ((390, 844), "dark"), ((1280, 800), "light")):
        tag = f"{size[0]}-{scheme}"
        agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)" if size[0] == 390 else None
        def fresh(login, ago=0):
            context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, user_agent=agent, locale="en")
            page = context.new_page()
            page.on("console", lambda m: print(tag, "console", m.text))
            page.on("pageerror", lambda m: print(tag, "error", m))
            page.on("requestfailed", lambda r: print(tag, "failed", r.url, r.failure))
            if login:
                go(page, served.url, login, ago)
            return page
        def shot(page, name):
            page.screenshot(path=OUT / f"{name}-{tag}.png", full_page=True)
        p = fresh(""); p.goto(served.url); shot(p, "welcome")
        p = fresh("u-carol"); shot(p, "none")
        p = fresh("u-bob"); shot(p, "home"); print(p.content() if tag == "390-light" else "")
        if tag == "390-light":
            a = fresh("u-alice")
            a.click("[data-action=reveal]"); shot(a, "password")
            a.wait_for_selector("#copy:visible")
            a.click("#hide"); shot(a, "password-hidden")
        p.click("[data-action=again]"); shot(p, "again")
        if tag == "1280-dark":
            p.check("input[value=phone]"); p.click("main [data-action=again]"); shot(p, "again-done")
        p.goto(served.url + "/nothing"); shot(p, "missing")
        d = fresh("u-admin"); shot(d, "admin")
        for path, name in (("/admin/requests", "requests"), ("/admin/ambiguous", "ambiguous"), ("/admin/people?q=a", "people"), ("/admin/person?address=alice@example.org", "person"), ("/admin/incident?address=alice@example.org", "incident")):
            d.goto(served.url + path); shot(d, name)
        h = fresh("u-helpdesk"); h.goto(served.url + "/helpdesk/person?address=bob@example.org"); shot(h, "helpdesk")
        u = fresh("u-audit"); shot(u, "audit")
