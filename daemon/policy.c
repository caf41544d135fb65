#include "daemon/kilatd_private.h"

#include <stdio.h>

/* A quoted local part is the same name when its quotes are not needed (RFC 5321 4.1.2); the accounts' names never need
 * them, and a backslash inside cannot match any. */
static struct slice policy_local_part(const struct smtp_address *address)
{
    struct slice local = address->local;

    return address->quoted && local.size >= 2 ? slice_of(local.data + 1, local.size - 2) : local;
}

/* The postmaster of a domain always has a mailbox (RFC 5321 4.5.1), also where no account is named so: it is that of
 * the domain, or of the first local one for <postmaster> alone. */
static bool policy_is_postmaster(const struct smtp_address *address)
{
    return slice_equal_nocase(policy_local_part(address), SLICE("postmaster"));
}

static struct slice policy_postmaster_domain(const struct generation *generation,
                                             struct slice domain)
{
    if (domain.size > 0)
        return domain;
    return slice_cstr(generation->settings.local_domains.count > 0
                          ? generation->settings.local_domains.items[0]
                          : generation->settings.hostname);
}

static const struct users_account *policy_account(const struct node *node,
                                                  const struct generation *generation,
                                                  const struct smtp_address *address)
{
    char name[SMTP_ADDRESS_MAX + 2];
    struct slice domain = policy_postmaster_domain(generation, address->domain);
    struct slice local = policy_local_part(address);
    int size;

    size = snprintf(name, sizeof(name), "%.*s@%.*s", SLICE_ARG(local), SLICE_ARG(domain));
    if (size < 0 || (size_t)size >= sizeof(name))
        return NULL;
    return users_table_find(node->accounts->table, slice_of(name, (size_t)size));
}

struct smtp_reply policy_recipient(struct node *node, const struct generation *generation,
                                   const struct netaddr *client, const struct smtp_address *address)
{
    if (!generation_is_local(generation, address->domain)) {
        if (address->literal || !generation_relays(generation, client, address->domain))
            return SMTP_REPLY(550, 5, 7, 1, "Relaying is not allowed here");
        return SMTP_REPLY(250, 2, 1, 5, "Ok");
    }
    if (policy_is_postmaster(address))
        return SMTP_REPLY(250, 2, 1, 5, "Ok");
    if (node->accounts->table == NULL)
        return SMTP_REPLY(451, 4, 3, 0, "The accounts cannot be read just now");
    if (policy_account(node, generation, address) == NULL)
        return SMTP_REPLY(550, 5, 1, 1, "No such user here");
    return SMTP_REPLY(250, 2, 1, 5, "Ok");
}

enum policy_mailbox policy_mailbox(struct node *node, struct slice text, char *directory,
                                   size_t size_bytes)
{
    const struct generation *generation = node->generation;
    const struct users_account *account = NULL;
    struct smtp_address address;
    int size;

    if (slice_equal_nocase(text, SLICE("postmaster")))
        address = (struct smtp_address){.whole = text, .local = text};
    else if (!smtp_address_parse(text, &address))
        return POLICY_NO_MAILBOX; /* never accepted, so never queued */
    if (node->accounts->table != NULL)
        account = policy_account(node, generation, &address);
    if (account != NULL) {
        size = snprintf(directory, size_bytes, "%s", account->directory);
    } else if (policy_is_postmaster(&address)) {
        struct slice domain = policy_postmaster_domain(generation, address.domain);
        size = snprintf(directory, size_bytes, "%.*s/postmaster", SLICE_ARG(domain));
        for (char *c = directory; *c != 0; c++)
            *c = (char)byte_lower((uint8_t)*c);
    } else {
        return node->accounts->table == NULL ? POLICY_UNKNOWN : POLICY_NO_MAILBOX;
    }
    return size > 0 && (size_t)size < size_bytes ? POLICY_MAILBOX : POLICY_NO_MAILBOX;
}
