<?php
// A query from PHP, with the extension msgpack alone: php docs/examples/query.php [URL]
$path = getenv("HACD_SOCKET") ?: "/run/hacd/hacd.sock";
$url = $argv[1] ?? "http://127.0.0.1:8080/";

$daemon = @stream_socket_client("unix://$path", $number, $why, 1);
if (!$daemon) {
    fwrite(STDERR, "$path: $why\n");
    exit(69);
}
fwrite($daemon, msgpack_pack([0, 1, "query", [$url, ["route" => "HTTP_REPLY", "timeout" => 500]]]));

$messages = new MessagePackUnpacker(false); // maps are arrays, and no objects of PHP's
while (!$messages->execute()) {
    $data = fread($daemon, 65536);
    if ($data === "" || $data === false) {
        fwrite(STDERR, "$path: the daemon went away\n");
        exit(69);
    }
    $messages->feed($data);
}
[$kind, $msgid, $error, $reply] = $messages->data(); // [1, 1, nil, {"ok": 1, "rs": 200, "rb": ...}]
if ($error) {
    fwrite(STDERR, "$error[code]: $error[message]\n");
    exit(2);
}
if (!$reply["ok"]) {
    fwrite(STDERR, "($reply[code]) $reply[err]\n");
    exit($reply["code"]);
}
echo "$reply[route] $reply[rs] ", strlen($reply["rb"]), "\n";
