"""Routes of hacd's own: the manual's examples. The setting `routes` names this file.

hacd call REQUEST --var rU=alice --var fU=bob
"""

from hacd.routes import route

ORIGIN = "http://127.0.0.1:8080"


@route("REQUEST")
def request(tx):
    """GET, with the caller's variables in the URL. The transaction is suspended until the reply is there."""
    tx.http_req["timeout"] = 1000
    tx.http_req["hdr"] = "X-Foo: bar"
    return tx.http_async_query(
        ORIGIN + "/test.php?r_uri=$(rU{s.escape.param})&f_uri=$(fU{s.escape.param})", "HTTP_REPLY"
    )


@route("POST")
def post(tx):
    """POST, since there is a body."""
    tx.http_req["body"] = "{'r_uri':'$rU', 'f_uri':'$fU'}"
    return tx.http_async_query(ORIGIN + "/test.php", "HTTP_REPLY")


@route("DELETE")
def delete(tx):
    """Not suspended: the caller gets the query's id at once, and the reply goes to a transaction of its own."""
    tx.http_req["method"] = "DELETE"
    tx.http_req["suspend"] = 0
    if tx.http_async_query(ORIGIN + "/test.php", "HTTP_REPLY") == -1:
        return {"error": tx.pv("$http_err")}
    tx.log("Query id: $http_req_id")
    return {"id": tx.pv("$http_req_id")}


@route("HTTP_REPLY")
def http_reply(tx):
    """Here all three resume: on reply, on error, or on timeout."""
    if tx.pv("$http_ok"):
        tx.log("status $http_rs, $http_bs bytes")
        tx.reply({"status": tx.pv("$http_rs"), "body": tx.pv("$http_rb")})
    else:
        tx.log("error $http_err", "warning")
        tx.reply({"error": tx.pv("$http_err")})


@route("LOOKUP")
async def lookup(tx):
    """Several queries in a straight line, and two at once."""
    user = await tx.query(ORIGIN + "/user?name=$(rU{s.escape.param})")
    if not user.ok or user.rs != 200:
        return {"error": user.err or f"the origin said {user.rs}"}
    quota, devices = await tx.gather(
        tx.query(ORIGIN + "/quota", body=user.rb),
        tx.query(ORIGIN + "/devices", body=user.rb),
    )
    return {"quota": quota.rs, "devices": devices.rs}
