"""Tests of a daemon with one front, by why: they are left out where the whole suite is run with more (TEST_FRONTS)."""

from __future__ import annotations

#: by file, the names of the tests, without their parameters
NAMES_AND_PATHS = {
    "test_hostile": {"test_garbage_on_the_workers_socket"},
    "test_hung_front": {"test_a_route_without_an_end", "test_a_front_that_is_stopped"},
    "test_log": {
        "test_all_processes_log_to_the_file",
        "test_the_file_is_opened_anew_on_sigusr1",
        "test_a_file_that_cannot_be_opened_anew",
        "test_signal_to_all_processes",
        "test_json_lines",
    },
    "test_log_streams": {"test_what_python_would_print_is_in_the_log"},
    "test_lost_workers": {"test_a_worker_that_is_stopped_is_replaced"},
    "test_processes": {
        "test_ps_says_which_is_which",
        "test_socket_has_its_mode_and_the_workers_socket_is_private",
        "test_nobody_is_left_when_the_supervisor_is_killed",
        "test_the_log_has_the_life_of_a_daemon",
    },
    "test_shared": {"test_a_worker_without_its_descriptor"},
    "test_systemd": {
        "test_a_socket_that_is_handed_over",
        "test_owner_and_group",
        "test_ready_when_every_worker_has_answered_and_not_before",
        "test_status_has_figures",
    },
    "test_tail": {"test_lines_of_all_processes", "test_lines_of_the_daemons_routes"},
}

#: a front has its share of a limit, and a test that reaches the whole of it with one connection does not
LIMITS = {
    "test_gate": {"test_max_host_connections"},
    "test_limits": {"test_max_transactions", "test_max_clients"},
    "test_max_memory": {
        "test_half_messages",
        "test_small_values_in_half_messages",
        "test_queries",
        "test_what_routes_hold",
        "test_many_who_send_at_once",
        "test_replies_that_nobody_takes",
    },
    "test_open_files": {
        "test_need_is_said",
        "test_limit_below_the_need_is_a_warning",
        "test_callers_for_whom_none_is_left_wait",
    },
    "test_shares": {
        "test_admins_look_and_stop_when_all_places_are_taken",
        "test_nothing_else_is_done_over_the_reserve",
        "test_the_reserve_is_bounded_too",
        "test_one_user_leaves_room_for_others",
        "test_max_user_transactions",
        "test_a_share_that_is_set_later_counts_what_is_in_flight",
    },
    "test_shm": {
        "test_shm_size",
        "test_shm_size_is_shared_by_bodies_on_their_way",
        "test_the_front_is_killed_in_the_middle",
    },
}

#: the front that is killed, or asked, is not the one that the test's other connections are at; arenas, connections to
#: origins, turns among those who registered, lines that are spared, and what is said of a setting, are each front's own
OF_EACH = {
    "test_borrowing": {
        "test_every_byte",
        "test_many",
        "test_many_are_returned_at_once",
        "test_who_keeps_all_goes_on",
        "test_asyncio",
        "test_threads",
        "test_a_caller_vanishes",
        "test_the_front_is_killed",
        "test_an_arena_without_use_is_given_up",
    },
    "test_clients": {"test_async_connection_lost_and_dialled_again"},
    "test_egress": {"test_a_connection_of_another_user_is_passed_by"},
    "test_http_versions": {"test_many_at_once_over_one_connection"},
    "test_log_streams": {"test_garbage_of_many_callers_fills_no_log"},
    "test_logins": {"test_ntlm_as_the_parameter_is_refused_for_logins"},
    "test_processes": {"test_dead_front_is_replaced_and_callers_are_told"},
    "test_protocol": {"test_ping_hello_stats"},
    "test_register": {"test_takers_take_turns"},
    "test_reload": {"test_a_wrong_file_is_refused_whole"},
    "test_routes_file": {"test_front_that_starts_again_with_a_wrong_file_serves_without_routes"},
    "test_tail": {
        "test_async_client_does_not_follow",
        "test_client_is_told_when_the_front_goes",
        "test_command_ends_when_the_front_does",
    },
    "test_turns": {"test_bodies_that_wait_come_whole"},
}


def wants_one(file: str, test: str) -> bool:
    """Whether that test, of `tests/FILE.py`, is one of them."""
    return any(test in by_file.get(file, ()) for by_file in (NAMES_AND_PATHS, LIMITS, OF_EACH))
