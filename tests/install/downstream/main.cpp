#include <duet.h>

#include <iostream>
#include <memory>
#include <string>

struct close_client {
    void operator()(duet_client *client) const { duet_close(&client); }
};
struct free_options {
    void operator()(duet_options *options) const { duet_options_free(&options); }
};

int main()
{
    duet_error error{};
    std::unique_ptr<duet_options, free_options> options{duet_options_new()};
    if (duet_options_environment(options.get(), &error) != DUET_OK)
        return 1;
    std::unique_ptr<duet_client, close_client> duet{duet_open(options.get(), &error)};
    if (!duet)
        return 1;
    std::string count;
    duet_operation op{};
    op.kind = DUET_INCR;
    op.key = duet_text("downstream");
    op.delta = 1;
    op.want = DUET_WANT_NEW;
    auto remember = [](const duet_result *result, void *user) {
        duet_slice value = duet_result_value(result);
        static_cast<std::string *>(user)->assign(static_cast<const char *>(value.data),
                                                 value.size);
    };
    if (duet_submit(duet.get(), &op, remember, &count, &error) != DUET_OK ||
        duet_drain(duet.get(), 60000, &error) != DUET_OK || count.empty()) {
        std::cout << error.message << "\n";
        return 1;
    }
    struct duet_client_info info; // a function has this name, too
    duet_client_info(duet.get(), &info);
    std::cout << duet_version_text() << " counted\n";
}
