/* generation.c and policy.c: whose mail is taken, and which mailbox it is for. */
#include "daemon/kilatd_private.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

static const char config[] = "hostname = mx.kawan.test\n"
                             "local_domains = {\"Kawan.test\", \"lain.test\"}\n"
                             "relay_networks = {\"10.0.0.0/8\", \"2001:db8::/32\"}\n"
                             "relay_domains = {\"tamu.test\"}\n"
                             "outgoing_source = 127.0.0.9\n"
                             "route \"jauh.test\" { via = \"192.0.2.1\" port = 26 }\n"
                             "route \"*\" { via = smart.test }\n";
static const char accounts_text[] = "fadli@kawan.test:*\n"
                                    "a+b@kawan.test:*\n"
                                    "postmaster@lain.test:*\n";

static struct node *node_make(const char *settings_text, const char *users)
{
    struct node *node = calloc(1, sizeof(*node));
    struct settings settings = {0};
    struct users_table *table = NULL;
    struct buf error;

    buf_init(&error, 4 * KIB);
    cr_assert_eq(
        settings_parse(settings_table(), slice_cstr(settings_text), "test", &settings, &error), 0,
        "%.*s", SLICE_ARG(buf_slice(&error)));
    cr_assert_eq(generation_create(&settings, &node->generation), 0);
    cr_expect_null(settings.hostname, "taken");
    if (users != NULL)
        cr_assert_eq(users_file_parse(slice_cstr(users), "users", &table, &error), 0);
    cr_assert_eq(accounts_create(table, &node->accounts), 0);
    buf_deinit(&error);
    return node;
}

static void node_free(struct node *node)
{
    generation_unref(&node->generation);
    accounts_unref(&node->accounts);
    free(node);
}

static struct netaddr address_of(const char *text)
{
    struct netaddr address;

    cr_assert(netaddr_parse(slice_cstr(text), 4000, &address), "%s", text);
    return address;
}

static uint16_t code_for(struct node *node, const char *client, const char *path)
{
    struct netaddr peer = address_of(client);
    struct smtp_address address;
    struct slice rest;

    cr_assert(smtp_path_parse(slice_cstr(path), false, true, &address, &rest), "%s", path);
    return policy_recipient(node, node->generation, &peer, &address).code;
}

struct case_of_recipient {
    const char *client, *path;
    uint16_t code;
};

static const struct case_of_recipient recipients[] = {
    {"192.0.2.7", "<fadli@kawan.test>", 250},
    {"192.0.2.7", "<FADLI@KAWAN.TEST>", 250},
    {"192.0.2.7", "<\"fadli\"@kawan.test>", 250},
    {"192.0.2.7", "<a+b@kawan.test>", 250},
    {"192.0.2.7", "<postmaster>", 250},
    {"192.0.2.7", "<PostMaster@lain.test>", 250},
    {"192.0.2.7", "<postmaster@kawan.test>", 250}, /* without an account */
    {"192.0.2.7", "<\"postmaster\"@kawan.test>", 250},
    {"192.0.2.7", "<nobody@kawan.test>", 550},
    {"192.0.2.7", "<fadli@lain.test>", 550},
    {"192.0.2.7", "<\"fad\\li\"@kawan.test>", 550},
    {"192.0.2.7", "<\"../fadli\"@kawan.test>", 550},
    {"192.0.2.7", "<fadli/x@kawan.test>", 550},
    /* not ours: only for whom we relay */
    {"192.0.2.7", "<a@jauh.test>", 550},
    {"192.0.2.7", "<a@tamu.test>", 250},
    {"192.0.2.7", "<a@sub.tamu.test>", 550},
    {"192.0.2.7", "<a@sub.kawan.test>", 550},
    {"192.0.2.7", "<postmaster@jauh.test>", 550},
    {"10.1.2.3", "<a@jauh.test>", 250},
    {"11.1.2.3", "<a@jauh.test>", 550},
    {"2001:db8::1", "<a@jauh.test>", 250},
    {"2001:db9::1", "<a@jauh.test>", 550},
    {"::ffff:10.1.2.3", "<a@jauh.test>", 250},
    /* an address literal is never relayed, and never ours */
    {"10.1.2.3", "<a@[192.0.2.1]>", 550},
    {"10.1.2.3", "<postmaster@[127.0.0.1]>", 550},
    /* what hides another destination inside the local part stays where it is */
    {"192.0.2.7", "<\"a@jauh.test\"@kawan.test>", 550},
    {"192.0.2.7", "<a%jauh.test@kawan.test>", 550},
    {"192.0.2.7", "<@kawan.test:a@jauh.test>", 550},
};

Test(policy, who_may_send_to_whom)
{
    struct node *node = node_make(config, accounts_text);

    for (size_t i = 0; i < ARRAY_SIZE(recipients); i++)
        cr_expect_eq(code_for(node, recipients[i].client, recipients[i].path), recipients[i].code,
                     "%s from %s", recipients[i].path, recipients[i].client);
    node_free(node);
}

/* Nobody is told that he does not exist because a file could not be read. */
Test(policy, without_accounts_the_answer_is_later)
{
    struct node *node = node_make(config, NULL);
    char directory[320];

    cr_expect_eq(code_for(node, "192.0.2.7", "<nobody@kawan.test>"), 451);
    cr_expect_eq(code_for(node, "192.0.2.7", "<postmaster@kawan.test>"), 250);
    cr_expect_eq(code_for(node, "192.0.2.7", "<a@jauh.test>"), 550);
    cr_expect_eq(policy_mailbox(node, SLICE("nobody@kawan.test"), directory, sizeof(directory)),
                 POLICY_UNKNOWN);
    node_free(node);
}

Test(policy, by_default_nothing_is_relayed)
{
    struct node *node = node_make("hostname = mx.test\n", "");

    cr_expect_eq(code_for(node, "127.0.0.1", "<a@jauh.test>"), 550);
    cr_expect_eq(code_for(node, "::1", "<a@mx.test>"), 550);
    cr_expect_eq(code_for(node, "192.0.2.7", "<postmaster>"), 250);
    node_free(node);
}

static const struct {
    const char *address;
    enum policy_mailbox wanted;
    const char *directory;
} mailboxes[] = {
    {"fadli@kawan.test", POLICY_MAILBOX, "kawan.test/fadli"},
    {"Fadli@KAWAN.test", POLICY_MAILBOX, "kawan.test/fadli"},
    {"\"fadli\"@kawan.test", POLICY_MAILBOX, "kawan.test/fadli"},
    {"postmaster", POLICY_MAILBOX, "kawan.test/postmaster"},
    {"POSTMASTER@Kawan.Test", POLICY_MAILBOX, "kawan.test/postmaster"},
    {"postmaster@lain.test", POLICY_MAILBOX, "lain.test/postmaster"},
    {"nobody@kawan.test", POLICY_NO_MAILBOX, NULL},
    {"", POLICY_NO_MAILBOX, NULL},
    {"fadli", POLICY_NO_MAILBOX, NULL},
    {"@", POLICY_NO_MAILBOX, NULL},
    {"postmaster@", POLICY_NO_MAILBOX, NULL},
    {"postmaster@..", POLICY_NO_MAILBOX, NULL},
    {"postmaster@../../etc", POLICY_NO_MAILBOX, NULL},
    {"../../etc/passwd@kawan.test", POLICY_NO_MAILBOX, NULL},
    {"../x", POLICY_NO_MAILBOX, NULL},
    {"\"../x\"@kawan.test", POLICY_NO_MAILBOX, NULL},
    {"a b@kawan.test", POLICY_NO_MAILBOX, NULL},
};

Test(policy, a_mailbox_lies_below_the_mail_root)
{
    struct node *node = node_make(config, accounts_text);

    for (size_t i = 0; i < ARRAY_SIZE(mailboxes); i++) {
        char directory[320] = "";
        cr_expect_eq(
            policy_mailbox(node, slice_cstr(mailboxes[i].address), directory, sizeof(directory)),
            mailboxes[i].wanted, "%s", mailboxes[i].address);
        if (mailboxes[i].directory != NULL)
            cr_expect_str_eq(directory, mailboxes[i].directory);
    }
    node_free(node);
}

Test(policy, a_mailbox_that_does_not_fit_is_none)
{
    struct node *node = node_make(config, accounts_text);
    char directory[10];

    cr_expect_eq(policy_mailbox(node, SLICE("fadli@kawan.test"), directory, sizeof(directory)),
                 POLICY_NO_MAILBOX);
    cr_expect_eq(policy_mailbox(node, SLICE("postmaster@kawan.test"), directory, sizeof(directory)),
                 POLICY_NO_MAILBOX);
    node_free(node);
}

/* ---- generation ------------------------------------------------------------------------------------- */

Test(generation, routes_are_found_without_case)
{
    struct node *node = node_make(config, "");
    const struct settings_route *route = generation_route(node->generation, SLICE("JAUH.test"));

    cr_assert_not_null(route);
    cr_expect_str_eq(route->via, "192.0.2.1");
    cr_expect_eq(route->port, 26);
    route = generation_route(node->generation, SLICE("other.test"));
    cr_assert_not_null(route);
    cr_expect_str_eq(route->via, "smart.test");
    node_free(node);
    node = node_make("hostname = mx.test\nroute \"jauh.test\" { via = a.test }\n", "");
    cr_expect_null(generation_route(node->generation, SLICE("sub.jauh.test")));
    cr_expect_null(generation_route(node->generation, SLICE("")));
    node_free(node);
}

Test(generation, settings_become_configurations)
{
    struct node *node = node_make("hostname = mx.test\nbare_newline = normalize\n"
                                  "message_bytes_max = 1M\nrecipients_max = 123\n"
                                  "smtp_data_timeout = 17m\nclient_dot_timeout = 19s\n"
                                  "expire = 3d\nsite_sessions_max = 7\nqueue_messages_max = 5000\n",
                                  "");
    struct queue_config queue;

    cr_expect_eq(node->generation->smtp_server.bare_newline, SMTP_BARE_NEWLINE_NORMALIZE);
    cr_expect_eq(node->generation->smtp_server.limits.message_bytes_max, MIB);
    cr_expect_eq(node->generation->smtp_server.limits.recipients_max, 123);
    cr_expect_eq(node->generation->smtp_server.limits.data_block_ms, 17 * MINUTE_MS);
    cr_expect_eq(node->generation->smtp_client.dot_ms, 19000);
    generation_queue_config(node->generation, &queue);
    cr_expect_eq(queue.expire_ms, 3 * DAY_MS);
    cr_expect_eq(queue.site_sessions_max, 7);
    cr_expect_eq(queue.messages_max, 5000);
    cr_expect_eq(node->generation->outgoing_source.size, 0);
    node_free(node);
}

/* A session keeps the settings it began with while newer ones are in force. */
Test(generation, lives_until_its_last_user_has_gone)
{
    struct node *node = node_make(config, "");
    struct generation *kept = generation_ref(node->generation);
    struct accounts *accounts = accounts_ref(node->accounts);

    node_free(node);
    cr_expect_str_eq(kept->settings.hostname, "mx.kawan.test");
    cr_expect_eq(accounts->table->count, 0);
    generation_unref(&kept);
    accounts_unref(&accounts);
    cr_expect_null(kept);
    generation_unref(&kept);
    accounts_unref(&accounts);
}
